//! Image-caption pairs to filtered instruction tasks.
