"""From a vector to a picture, and from that picture to the real products nearest to it."""
