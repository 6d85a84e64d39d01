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
