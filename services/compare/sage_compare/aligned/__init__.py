"""Mode ALIGNED: what was done to one film to make the other, to the frame, as an edit script."""
