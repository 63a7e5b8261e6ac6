// What a server says when it refuses something.

/** The sentence of an answer that is an error: the server's own, or that there is none (a proxy's page, for example). */
export async function sentenceOf(answer) {
  const text = await answer.text().catch(() => "");
  try {
    return JSON.parse(text).error;
  } catch {
    const ours = text && !text.includes("<") && text.length < 300;
    return ours ? text : `The server, or a proxy before it, answers with ${answer.status}: reload the page a little later.`;
  }
}
