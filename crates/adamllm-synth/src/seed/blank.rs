use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};

/// A store with one more image: a blank one, white, 336 pixels wide and high (the side of LLaVA's CLIP encoder).
#[derive(Clone, Debug)]
pub struct BlankImages<S> {
    store: S,
    blank: ImageRef,
}

impl<S: ImageStore> BlankImages<S> {
    /// Side of the blank image in pixels.
    pub const SIDE: u32 = 336;

    /// Adds the blank image under the name `blank`, as in [`SeedConfig`](crate::seed::SeedConfig).
    pub fn new(store: S, blank: ImageRef) -> Self {
        Self { store, blank }
    }
}

impl<S: ImageStore> ImageStore for BlankImages<S> {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        if *image != self.blank {
            return self.store.open(image);
        }
        let white = vec![255; (Self::SIDE * Self::SIDE * 3) as usize];
        Ok(RgbImage::from_raw(Self::SIDE, Self::SIDE, white).expect("three bytes a pixel"))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        if *image == self.blank { Ok((Self::SIDE, Self::SIDE)) } else { self.store.size(image) }
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        if *image == self.blank { Ok(None) } else { self.store.bytes(image) }
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::MemoryImages;

    use super::*;

    /// A store that keeps files too.
    struct Files(MemoryImages);

    impl ImageStore for Files {
        fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
            self.0.open(image)
        }
        fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
            Ok(Some(image.as_str().into()))
        }
    }

    #[test]
    fn the_blank_image_is_white_and_the_others_are_the_stores() {
        let mut images = MemoryImages::new();
        images.insert("a.png", RgbImage::new(4, 5));
        let store = BlankImages::new(Files(images), "blank".into());
        let [blank, stored] = ["blank", "a.png"].map(ImageRef::from);
        let white = store.open(&blank).expect("always there");
        assert_eq!((white.dimensions(), store.size(&blank).expect("known")), ((336, 336), (336, 336)));
        assert!(white.as_raw().iter().all(|sample| *sample == 255));
        assert_eq!(store.bytes(&blank).expect("no file"), None);
        assert_eq!(store.open(&stored).expect("there"), RgbImage::new(4, 5));
        assert_eq!(store.size(&stored).expect("there"), (4, 5));
        assert_eq!(store.bytes(&stored).expect("a file"), Some(b"a.png".to_vec()));
        assert!(store.open(&"none".into()).is_err());
    }
}
