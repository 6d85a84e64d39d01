//! Damaged files: an error or an image of the size that it says, never a panic, never more memory than was allowed.

use adamllm_jpeg::{JpegError, decode_components, decode_rgb};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use proptest::prelude::*;

const WIDTH: usize = 37;
const HEIGHT: usize = 23;

/// A file with every kind of coding that the encoder knows, chosen by number.
fn file(kind: u8) -> Vec<u8> {
    let color = [ColorType::Luma, ColorType::Rgb, ColorType::Cmyk, ColorType::CmykAsYcck][usize::from(kind % 4)];
    let n_channels = [1, 3, 4, 4][usize::from(kind % 4)];
    let samples: Vec<u8> = (0..WIDTH * HEIGHT * n_channels).map(|i| (i * 7 % 251) as u8).collect();
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 40 + kind);
    encoder.set_progressive(kind & 4 != 0);
    encoder.set_sampling_factor(if kind & 8 != 0 { SamplingFactor::F_2_2 } else { SamplingFactor::F_1_1 });
    encoder.set_restart_interval(u16::from(kind & 16 != 0) * 3);
    encoder.encode(&samples, WIDTH as u16, HEIGHT as u16, color).expect("encodes");
    jpeg
}

#[test]
fn whole_files_decode() {
    for kind in 0..32 {
        let image = decode_rgb(&file(kind), u64::MAX).unwrap_or_else(|error| panic!("kind {kind}: {error}"));
        assert_eq!((image.width, image.height, image.samples.len()), (WIDTH, HEIGHT, WIDTH * HEIGHT * 3));
        let components = decode_components(&file(kind), false, u64::MAX).expect("decodes");
        assert_eq!(components.n_channels, [1, 3, 4, 4][usize::from(kind % 4)]);
    }
}

#[test]
fn nothing_is_reserved_for_more_pixels_than_allowed() {
    let limit = (WIDTH * HEIGHT) as u64;
    assert!(decode_rgb(&file(1), limit).is_ok());
    let error = decode_rgb(&file(1), limit - 1).expect_err("too large");
    assert_eq!(error, JpegError::TooLarge { width: WIDTH, height: HEIGHT, limit: limit - 1 });
    assert!(matches!(decode_rgb(b"", 1), Err(JpegError::Broken { .. })));
}

proptest! {
    #[test]
    fn cut_files_are_errors(kind in 0_u8..32, share in 0.0..0.9) {
        let whole = file(kind);
        let cut = &whole[..(whole.len() as f64 * share) as usize];
        prop_assert!(decode_rgb(cut, u64::MAX).is_err());
    }

    #[test]
    fn changed_bytes_never_panic(kind in 0_u8..32, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = file(kind);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for decoded in [decode_rgb(&bytes, 1 << 20), decode_components(&bytes, true, 1 << 20)].into_iter().flatten() {
            prop_assert_eq!(decoded.samples.len(), decoded.width * decoded.height * decoded.n_channels);
        }
    }
}
