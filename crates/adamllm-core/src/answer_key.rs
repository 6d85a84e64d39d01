//! Cache keys: everything that a model's answer depends on. The prompt stands for the rendered tokens, since the model's
//! identity covers its template and tokenizer.

use std::collections::HashMap;

use serde::Serialize;

use crate::{CoreError, ImageRef, ImageStore, RecordId};

/// The key of one answer of one model, for a [`Journal`](crate::jsonl::Journal).
///
/// `purpose` keeps kinds of work apart, `identity` is [`Generate::identity`](crate::Generate::identity), `reading` is how
/// the answer is taken (a [`Decoding`](crate::Decoding), the continuations that are scored), `images` are the hashes of
/// the prompt's images in order ([`image_hash`]).
///
/// # Panics
/// Where `reading` or `prompt` has no JSON form: a map whose keys are not text.
pub fn answer_key(
    purpose: &str,
    identity: &str,
    reading: &impl Serialize,
    prompt: &impl Serialize,
    images: &[RecordId],
) -> RecordId {
    let json = |text: serde_json::Result<String>| text.expect("prompts and settings have a JSON form");
    let (reading, prompt) = (json(serde_json::to_string(reading)), json(serde_json::to_string(prompt)));
    let parts = [purpose, identity, &reading, &prompt];
    RecordId::of("answer", parts.into_iter().chain(images.iter().map(RecordId::as_str)))
}

/// A hash of the image's file, or of its pixels where the store keeps no file: the same image has the same hash
/// under any name.
///
/// # Errors
/// As [`ImageStore::open`].
pub fn image_hash(images: &dyn ImageStore, image: &ImageRef) -> Result<RecordId, CoreError> {
    if let Some(bytes) = images.bytes(image)? {
        return Ok(RecordId::of_bytes("image-file", [bytes.as_slice()]));
    }
    let pixels = images.open(image)?;
    let size = [pixels.width().to_le_bytes(), pixels.height().to_le_bytes()].concat();
    Ok(RecordId::of_bytes("image-pixels", [size.as_slice(), pixels.as_raw()]))
}

/// [`image_hash`]es of one store, each computed once.
#[derive(Default)]
pub struct ImageHashes<'a> {
    images: Option<&'a dyn ImageStore>,
    known: HashMap<ImageRef, RecordId>,
}

impl std::fmt::Debug for ImageHashes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageHashes").field("n_known", &self.known.len()).finish_non_exhaustive()
    }
}

impl<'a> ImageHashes<'a> {
    /// Hashes of the images in `images`; of their names where there is no store at hand.
    pub fn new(images: Option<&'a dyn ImageStore>) -> Self {
        Self { images, known: HashMap::new() }
    }

    /// The image's hash.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    pub fn get(&mut self, image: &ImageRef) -> Result<RecordId, CoreError> {
        if let Some(hash) = self.known.get(image) {
            return Ok(hash.clone());
        }
        let hash = match self.images {
            Some(images) => image_hash(images, image)?,
            None => RecordId::of("image-name", [image.as_str()]),
        };
        self.known.insert(image.clone(), hash.clone());
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::{Decoding, MemoryImages, Prompt};

    #[test]
    fn a_key_covers_everything_that_an_answer_depends_on() {
        let prompt = |text| Prompt::ask(&"a.png".into(), text);
        let (a, b) = ([RecordId::of("p", ["a"])], [RecordId::of("p", ["b"])]);
        let base = || answer_key("predict", "m", &Decoding::greedy(8), &prompt("What?"), &a);
        assert_eq!(base(), base());
        let others = [
            answer_key("propose", "m", &Decoding::greedy(8), &prompt("What?"), &a),
            answer_key("predict", "n", &Decoding::greedy(8), &prompt("What?"), &a),
            answer_key("predict", "m", &Decoding::greedy(9), &prompt("What?"), &a),
            answer_key("predict", "m", &Decoding::greedy(8), &prompt("Who?"), &a),
            answer_key("predict", "m", &Decoding::greedy(8), &prompt("What?"), &b),
            answer_key("predict", "m", &Decoding::greedy(8), &prompt("What?"), &[]),
        ];
        assert!(others.iter().all(|other| *other != base()));
    }

    #[test]
    fn images_are_known_by_their_content() {
        let mut images = MemoryImages::new();
        for (name, shade) in [("a", 1), ("b", 1), ("c", 2)] {
            images.insert(name, RgbImage::from_pixel(2, 3, Rgb([shade; 3])));
        }
        images.insert("turned", RgbImage::from_pixel(3, 2, Rgb([1; 3])));
        let mut hashes = ImageHashes::new(Some(&images));
        let mut of = |name: &str| hashes.get(&name.into()).expect("is there");
        assert_eq!(of("a"), of("b"));
        assert_ne!(of("a"), of("c"));
        assert_ne!(of("a"), of("turned"));
        assert!(matches!(hashes.get(&"none".into()), Err(CoreError::ImageMissing { .. })));
        let mut names = ImageHashes::default();
        assert_ne!(names.get(&"a".into()).expect("a name"), names.get(&"b".into()).expect("a name"));
    }
}
