use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage, has_image_ending};

use crate::FolderImages;

/// Several stores as one: an image is taken from the first that has it (data sets often come in several archives).
#[derive(Default)]
pub struct FirstOf(Vec<Box<dyn ImageStore>>);

impl std::fmt::Debug for FirstOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstOf").field("n_stores", &self.0.len()).finish()
    }
}

impl FirstOf {
    /// The stores in the order in which they are asked.
    pub fn new(stores: Vec<Box<dyn ImageStore>>) -> Self {
        Self(stores)
    }

    fn ask<T>(
        &self,
        image: &ImageRef,
        question: impl Fn(&dyn ImageStore) -> Result<T, CoreError>,
    ) -> Result<T, CoreError> {
        let mut locations = Vec::new();
        for store in &self.0 {
            match question(store.as_ref()) {
                Err(CoreError::ImageMissing { location, .. }) if locations.contains(&location) => {}
                Err(CoreError::ImageMissing { location, .. }) => locations.push(location),
                answer => return answer,
            }
        }
        Err(CoreError::ImageMissing { image: image.to_string(), location: locations.join(" or ") })
    }
}

impl ImageStore for FirstOf {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        self.ask(image, |store| store.open(image))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.ask(image, |store| store.size(image))
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.ask(image, |store| store.bytes(image))
    }
}

/// A store that can be replaced by another one: a model that is loaded once reads the images of one data set after the
/// other. Clones are the same store.
#[derive(Clone)]
pub struct CurrentImages(Arc<RwLock<Arc<dyn ImageStore>>>);

impl std::fmt::Debug for CurrentImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurrentImages(...)")
    }
}

impl CurrentImages {
    /// The images of `store`.
    pub fn new(store: Arc<dyn ImageStore>) -> Self {
        Self(Arc::new(RwLock::new(store)))
    }

    /// From now on, the images of another store.
    pub fn set(&self, store: Arc<dyn ImageStore>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = store;
    }

    fn get(&self) -> Arc<dyn ImageStore> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ImageStore for CurrentImages {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        self.get().open(image)
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.get().size(image)
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.get().bytes(image)
    }
}

/// What images can be kept in.
enum Container {
    Folder,
    #[cfg(feature = "zip")]
    Tar(crate::TarImages),
    #[cfg(feature = "zip")]
    Zip(crate::ZipImages),
}

impl Container {
    fn open(path: &Path) -> Result<Self, CoreError> {
        let found = std::fs::metadata(path).map_err(CoreError::io("open", path))?;
        if found.is_dir() {
            return Ok(Self::Folder);
        }
        #[cfg(feature = "zip")]
        return match crate::tar_archive::is_tar(path)? {
            true => crate::TarImages::open(path).map(Self::Tar),
            false => crate::ZipImages::open(path).map(Self::Zip),
        };
        #[cfg(not(feature = "zip"))]
        Err(CoreError::io("read without the feature `zip`", path)(std::io::ErrorKind::Unsupported.into()))
    }
}

/// The images at a path, whatever it is: a folder, or (feature `zip`) a zip or tar archive.
///
/// # Errors
/// [`CoreError::Io`] where nothing is there, or something that holds no images.
pub fn images_at(path: impl AsRef<Path>) -> Result<Box<dyn ImageStore>, CoreError> {
    let path = path.as_ref();
    Ok(match Container::open(path)? {
        Container::Folder => Box::new(FolderImages::new(path)),
        #[cfg(feature = "zip")]
        Container::Tar(images) => Box::new(images),
        #[cfg(feature = "zip")]
        Container::Zip(images) => Box::new(images),
    })
}

/// All images at such a path, as [`images_at`] names them, sorted: files in the folder and the folders below it (links to folders are not
/// followed), or in the archive, whose names end as images' do, whatever their case. Hidden ones (`._a.jpg`, `.git`, `__MACOSX`) are left out.
/// Nothing is decoded.
///
/// # Errors
/// As [`images_at`]; folders that cannot be read.
pub fn image_names_at(path: impl AsRef<Path>) -> Result<Vec<ImageRef>, CoreError> {
    let path = path.as_ref();
    let mut names = Vec::new();
    match Container::open(path)? {
        Container::Folder => push_names(path, "", &mut names)?,
        #[cfg(feature = "zip")]
        Container::Tar(images) => names.extend(images.paths().map(str::to_owned)),
        #[cfg(feature = "zip")]
        Container::Zip(images) => names.extend(images.paths()),
    }
    names.retain(|name| is_image_name(name));
    names.sort();
    names.dedup();
    Ok(names.into_iter().map(ImageRef::from).collect())
}

fn is_image_name(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX");
    !hidden && has_image_ending(name)
}

/// The files below a folder, with forward slashes. A name that is no Unicode could not be written down, and is passed over.
fn push_names(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), CoreError> {
    for entry in std::fs::read_dir(folder).map_err(CoreError::io("read", folder))? {
        let entry = entry.map_err(CoreError::io("read", folder))?;
        let Ok(name) = entry.file_name().into_string() else {
            tracing::warn!(file = %entry.path().display(), "passed over: its name is no Unicode");
            continue;
        };
        let name = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(CoreError::io("read", entry.path()))?;
        if kind.is_dir() {
            push_names(&entry.path(), &format!("{name}/"), names)?;
        } else if kind.is_file() || entry.path().is_file() {
            names.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use adamllm_core::MemoryImages;

    use super::*;

    #[test]
    fn the_first_store_that_has_it() {
        let store = |name: &str, width| {
            let mut images = MemoryImages::new();
            images.insert(name, RgbImage::new(width, 1));
            images.insert("both", RgbImage::new(width, 1));
            Box::new(images) as Box<dyn ImageStore>
        };
        let stores = FirstOf::new(vec![store("a", 1), store("b", 2)]);
        for (name, width) in [("a", 1), ("b", 2), ("both", 1)] {
            assert_eq!(stores.size(&name.into()).expect("is there").0, width);
        }
        assert!(matches!(stores.open(&"c".into()), Err(CoreError::ImageMissing { .. })));
    }

    #[test]
    fn a_store_that_is_replaced() {
        let store = |width| {
            let mut images = MemoryImages::new();
            images.insert("a", RgbImage::new(width, 1));
            Arc::new(images)
        };
        let current = CurrentImages::new(store(1));
        let of_the_model = current.clone();
        current.set(store(2));
        assert_eq!(of_the_model.size(&"a".into()).expect("is there"), (2, 1));
    }

    #[test]
    fn images_are_found_by_their_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let below = folder.path().join("b/c");
        std::fs::create_dir_all(&below).expect("folders");
        std::fs::create_dir_all(folder.path().join(".git")).expect("folders");
        for name in ["z.PNG", "a.jpeg", "captions.json", "b/2.tif", "b/c/1.jpg", "b/._2.tif", ".git/x.png", "png"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let names = image_names_at(folder.path()).expect("a folder");
        let names: Vec<&str> = names.iter().map(ImageRef::as_str).collect();
        assert_eq!(names, ["a.jpeg", "b/2.tif", "b/c/1.jpg", "z.PNG"]);
        assert!(image_names_at(folder.path().join("gone")).is_err());
    }

    #[test]
    fn a_path_that_is_not_there() {
        assert!(matches!(images_at("no/such/folder"), Err(CoreError::Io { .. })));
        assert!(images_at(env!("CARGO_MANIFEST_DIR")).is_ok());
    }
    /// A store of one image whose header, pixels and file can be distinguished.
    struct One(&'static str);

    impl ImageStore for One {
        fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
            self.bytes(image).map(|_| RgbImage::new(2, 3))
        }
        fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
            self.bytes(image).map(|_| (20, 30))
        }
        fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
            match image.as_str() == self.0 {
                true => Ok(Some(self.0.into())),
                false => Err(CoreError::ImageMissing { image: image.to_string(), location: self.0.into() }),
            }
        }
    }

    #[test]
    fn what_stands_for_a_store_answers_as_it_does() {
        let first = FirstOf::new(vec![Box::new(One("a")), Box::new(One("b")), Box::new(One("b"))]);
        let current = CurrentImages::new(Arc::new(One("b")));
        for store in [&first as &dyn ImageStore, &current] {
            assert_eq!(store.open(&"b".into()).expect("is there").dimensions(), (2, 3));
            assert_eq!(store.size(&"b".into()).expect("is there"), (20, 30));
            assert_eq!(store.bytes(&"b".into()).expect("is there"), Some(b"b".to_vec()));
        }
        assert_eq!(format!("{first:?} {current:?}"), "FirstOf { n_stores: 3 } CurrentImages(...)");
        let missing = first.size(&"c".into()).expect_err("in none of them").to_string();
        assert_eq!(missing, "image c not found in a or b", "each place once");
    }
}
