"""What the pages of jinn share: who may connect, how requests are answered, and frames as a film."""
