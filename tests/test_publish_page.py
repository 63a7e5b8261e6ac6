"""The tests of the player's page that know nothing of what computes its frames, against a published page."""

from __future__ import annotations

import pytest

from jinn.world.world import World
from test_player_browser import (  # noqa: F401
    test_an_uploaded_picture_becomes_the_first_frame,
    test_buttons_show_the_direction_of_their_action,
    test_buttons_work_by_pointer_and_by_keyboard,
    test_keys_play_the_world,
    test_pause_and_single_frames,
    test_reset_and_gallery_start_a_new_roll_out,
    test_speed_and_continuous_play,
    test_two_players_at_once,
)
from test_player_browser_time import (  # noqa: F401
    test_a_gamepad_plays,
    test_keys_can_be_reassigned,
    test_rewinding_and_taking_another_branch,
    test_the_last_action_is_repeated,
    test_the_page_fits_a_phone,
    test_what_if_and_choosing_a_branch,
)

pytestmark = pytest.mark.long
pytest_plugins = ["helpers_browser", "helpers_publish"]


@pytest.fixture
def address(published: str) -> str:
    return published


@pytest.fixture
def world(saved_world: World) -> World:
    return saved_world
