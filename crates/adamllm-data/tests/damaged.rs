//! Damaged and cut images of every kind: never a panic of our own, never a wrong size, never more memory than a small
//! multiple of what a header may announce.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use adamllm_core::RgbImage;
use adamllm_data::{DecodeError, DecodeOptions, decode, image_size};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Counts the bytes that are held. The file has one test, so that nothing else is counted.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn taken(size: usize) {
        let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
        MOST.fetch_max(held, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::taken(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::taken(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MAX_PIXELS: u64 = 1 << 18;

/// Samples of a pixel in every form that a decoder may hold at once, and the codecs' tables.
const MAX_MEMORY: usize = MAX_PIXELS as usize * 64 + (48 << 20);

fn images() -> Vec<(String, Vec<u8>)> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files =
        ["images", "variants"].into_iter().flat_map(|folder| std::fs::read_dir(tests.join(folder)).expect(folder));
    let names = files.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file());
    let mut images: Vec<_> = names
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("readable")))
        .filter(|(name, bytes)| !bytes.is_empty() && !name.ends_with(".rgb.png") && !name.ends_with(".white.png"))
        .collect();
    images.sort();
    images
}

#[test]
fn damage_is_an_error_or_an_image_of_the_announced_size() {
    let images = images();
    let options = DecodeOptions { max_pixels: MAX_PIXELS, ..DecodeOptions::default() };
    // Where, and to what; the beginning, where the headers are, more often than the rest.
    let offset = prop_oneof![(0.0..1.0_f64).prop_map(|part| (part, 1.0)), (0.0..1.0_f64).prop_map(|part| (part, 0.1))];
    let damage = prop::collection::vec((offset, prop_oneof![Just(0), Just(0xFF), any::<u8>()]), 0..4);
    let damage = (0..images.len(), damage, prop::option::weighted(0.3, 0.0..1.0_f64));
    let config = Config { cases: 4000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&damage, |(index, changes, cut)| {
        let (name, whole) = &images[index];
        let mut bytes = whole.clone();
        for ((part, share), value) in changes {
            let at = (part * share * bytes.len() as f64) as usize;
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }

        let (image, size, most) = measured(&bytes, &options);
        prop_assert!(most < MAX_MEMORY, "{name}: {most} bytes");
        match image {
            Ok(image) => prop_assert_eq!(Ok(image.dimensions()), size, "{}", name),
            Err(error) => prop_assert!(!error.to_string().contains("gave up"), "{name}: {error}"),
        }
        Ok(())
    });
    result.expect("every damage is survived");

    // A block of a WebP that claims four gigabytes: rarely drawn above.
    let (_, whole) = images.iter().find(|(name, _)| name.ends_with("xmp.webp")).expect("there");
    let mut bytes = whole.clone();
    let block = bytes.windows(4).position(|name| name == b"XMP ").expect("a block");
    bytes[block + 7] = 0xFF;
    let (image, size, most) = measured(&bytes, &options);
    assert!(most < MAX_MEMORY, "{most} bytes");
    assert!(matches!((image, size), (Err(DecodeError::Truncated { .. }), Err(DecodeError::Truncated { .. }))));
}

type Decoded<T> = Result<T, DecodeError>;

/// An image decoded, its size from the header, and how much memory both took at most.
fn measured(bytes: &[u8], options: &DecodeOptions) -> (Decoded<RgbImage>, Decoded<(u32, u32)>, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let (image, size) = (decode(bytes, options), image_size(bytes, options));
    (image, size, MOST.load(Ordering::Relaxed) - before)
}
