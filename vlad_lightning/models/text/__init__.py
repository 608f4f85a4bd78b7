"""From prompts to Conditioning: text towers, spelling, and the composition of Eq. 2."""
