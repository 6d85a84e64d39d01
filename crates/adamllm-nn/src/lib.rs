//! Tensor-level contracts, and the layers that vision towers and decoders share.
