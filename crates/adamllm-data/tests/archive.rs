//! Images in a zip archive (`tools/fixtures/make_tables.py`).

use std::path::Path;

use adamllm_core::{CoreError, ImageStore};
use adamllm_data::ZipImages;

fn archive() -> ZipImages {
    ZipImages::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables/images.zip")).expect("opens")
}

#[test]
fn images_by_path_and_under_a_folder() {
    let (whole, under) = (archive(), archive().under("images/"));
    let mut paths: Vec<_> = under.paths().collect();
    paths.sort_unstable();
    assert_eq!(paths, ["0.png", "1.png", "2.png"]);
    for path in paths {
        let image = path.as_str().into();
        let pixels = under.open(&image).expect("decodes");
        assert_eq!(under.size(&image).expect("has a header"), pixels.dimensions());
        assert_eq!(whole.open(&format!("images/{path}").into()).expect("decodes"), pixels);
    }
    assert!(matches!(whole.open(&"0.png".into()), Err(CoreError::ImageMissing { .. })));
    assert!(matches!(whole.bytes(&"../0.png".into()), Err(CoreError::Field { .. })));
}

#[test]
fn threads_read_side_by_side() {
    let store = archive().under("images");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..30 {
                    let image = format!("{}.png", (i + thread) % 3).into();
                    assert_eq!(store.open(&image).expect("decodes").width(), 9);
                }
            });
        }
    });
}

#[test]
fn a_damaged_archive_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = std::fs::read(archive().path()).expect("a committed file");
    let path = folder.path().join("damaged.zip");
    std::fs::write(&path, &whole[..whole.len() - 30]).expect("written");
    assert!(matches!(ZipImages::open(&path), Err(CoreError::Io { .. })));
    let mut damaged = whole.clone();
    damaged[60..90].fill(0x5A);
    std::fs::write(&path, damaged).expect("written");
    let store = ZipImages::open(&path).expect("the table of contents is whole");
    assert!(store.open(&"images/0.png".into()).is_err());
    assert!(store.open(&"images/2.png".into()).is_ok());
}
