//! Whatever the bytes are, the decoder answers with pixels of the size that it says, or with an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    const MAX_PIXELS: u64 = 1 << 20;
    for decoded in [
        adamllm_jpeg::decode_rgb(bytes, MAX_PIXELS),
        adamllm_jpeg::decode_components(bytes, true, MAX_PIXELS),
    ] {
        if let Ok(image) = decoded {
            assert_eq!(image.samples.len(), image.width * image.height * image.n_channels);
            assert!((image.width * image.height) as u64 <= MAX_PIXELS);
        }
    }
});
