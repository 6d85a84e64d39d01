//! Pixels to patch features: image preprocessing and vision towers.
