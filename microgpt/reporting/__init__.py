"""What a run wrote down: as pictures, a page, a screen, for other programs.  It computes no gradient."""
