"""The tiny world: captioned scenes of coloured shapes, and the recipe that trains a miniature of each model on them."""
