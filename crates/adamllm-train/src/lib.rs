//! Captions and tasks mixed in a single stage; the fitting loop; checkpoints.
