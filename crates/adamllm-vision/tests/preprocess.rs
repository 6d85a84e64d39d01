//! Image preprocessing against Pillow and transformers' processors (`tools/fixtures/make_preprocess.py`).

use adamllm_vision::preprocess::{
    ClipImageConfig, LlavaNextImageConfig, MllamaImageConfig, Normalisation, PassOrder, PreprocessError,
    Qwen2VlImageConfig, Resampling, SmolVlmImageConfig, SplitGrid, Tiles, resize, resize_nearest,
};
use image::{Rgb, RgbImage};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn recorded<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preprocess.json"));
    let mut file: serde_json::Value = serde_json::from_str(&text.expect("a committed file")).expect("JSON");
    serde_json::from_value(file[name].take()).expect("the maker's form")
}

/// The images of the maker, from the same formulas.
fn drawn((width, height): (u32, u32), kind: &str) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let value = |c: u32| match kind {
            "noise" => {
                let mixed = u64::from(x) * 2_654_435_761 + u64::from(y) * 2_246_822_519 + u64::from(c) * 3_266_489_917;
                (mixed as u32 >> 24) as u8
            }
            _ => 255 * (((x / 5 + y / 7 + c * (x / 11)) % 2) ^ u32::from((x + y).is_multiple_of(13))) as u8,
        };
        Rgb([value(0), value(1), value(2)])
    })
}

fn crc32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.into_iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// The 8-bit levels that normalised values came from; `plane` values of a channel follow each other.
fn levels(values: &[f32], plane: usize, by: Normalisation) -> Vec<u8> {
    let level = |(i, value): (usize, &f32)| {
        let channel = i / plane % 3;
        ((value * by.std[channel] + by.mean[channel]) * 255.0).round() as u8
    };
    values.iter().enumerate().map(level).collect()
}

#[derive(Deserialize)]
struct Resized {
    kind: String,
    size: (u32, u32),
    target: (u32, u32),
    filter: String,
    crc: u32,
}

#[test]
fn nearest_neighbours_are_pillows() {
    for case in recorded::<Vec<Resized>>("nearest") {
        let resized = resize_nearest(&drawn(case.size, &case.kind), case.target).expect("possible");
        assert_eq!(crc32(resized.into_raw()), case.crc, "{:?} to {:?}", case.size, case.target);
    }
    assert!(resize_nearest(&drawn((4, 4), "noise"), (0, 4)).is_err());
}

#[test]
fn resized_images_are_pillows() {
    for case in recorded::<Vec<Resized>>("resize") {
        let resampling = match case.filter.as_str() {
            "bilinear" => Resampling::Bilinear,
            "bicubic" => Resampling::Bicubic,
            _ => Resampling::Lanczos,
        };
        let resized = resize(&drawn(case.size, &case.kind), case.target, resampling, PassOrder::Pillow);
        let crc = crc32(resized.expect("possible").into_raw());
        assert_eq!(crc, case.crc, "{} {:?} to {:?}, {}", case.kind, case.size, case.target, case.filter);
    }
}

#[test]
fn the_order_of_the_axes_matters_where_pillow_changes_it() {
    let image = drawn((97, 41), "edges");
    let [a, b] = [PassOrder::Pillow, PassOrder::RowsFirst]
        .map(|order| resize(&image, (97 * 2, 20), Resampling::Bicubic, order).expect("possible"));
    assert_ne!(a, b);
    let [a, b] = [PassOrder::Pillow, PassOrder::RowsFirst]
        .map(|order| resize(&image, (40, 80), Resampling::Bicubic, order).expect("possible"));
    assert_eq!(a, b);
}

#[derive(Deserialize)]
struct Processed {
    kind: String,
    size: (u32, u32),
    shape: Vec<usize>,
    crc: u32,
    sum: f64,
    grid: Option<[u32; 3]>,
    aspect_ratio_id: Option<u32>,
    split: Option<bool>,
    tiles: Option<(usize, usize)>,
}

impl Processed {
    fn check(&self, values: &[f32], plane: usize, by: Normalisation) {
        let case = format!("{} {:?}", self.kind, self.size);
        assert_eq!(values.len(), self.shape.iter().product::<usize>(), "{case}");
        assert_eq!(crc32(levels(values, plane, by)), self.crc, "{case}");
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        assert!((sum - self.sum).abs() < 1e-6 * values.len() as f64, "{case}: {sum} against {}", self.sum);
    }

    fn check_tiles(&self, tiles: &Tiles) {
        self.check_tiles_by(tiles, Normalisation::CLIP);
    }

    fn check_tiles_by(&self, tiles: &Tiles, by: Normalisation) {
        self.check(&tiles.pixels, (tiles.side * tiles.side) as usize, by);
        assert_eq!([tiles.n_tiles, tiles.side as usize], [self.shape[0], self.shape[3]]);
    }
}

#[test]
fn qwen2_vl_patches() {
    let config = Qwen2VlImageConfig { max_pixels: 40_000, ..Qwen2VlImageConfig::default() };
    for case in recorded::<Vec<Processed>>("qwen2_vl") {
        let patches = config.patches(&drawn(case.size, &case.kind)).expect("possible");
        assert_eq!(Some([patches.grid.t, patches.grid.h, patches.grid.w]), case.grid);
        case.check(&patches.pixels, 2 * 14 * 14, Normalisation::CLIP);
    }
}

#[test]
fn llava_next_tiles() {
    let pinpoints = vec![(28, 56), (56, 28), (56, 56), (84, 28), (28, 84)];
    let config = LlavaNextImageConfig { tile: 28, pinpoints, ..LlavaNextImageConfig::default() };
    for case in recorded::<Vec<Processed>>("llava_next") {
        case.check_tiles(&config.tiles(&drawn(case.size, &case.kind)).expect("possible"));
    }
}

#[test]
fn mllama_tiles() {
    let config = MllamaImageConfig { tile: 28, ..MllamaImageConfig::default() };
    for case in recorded::<Vec<Processed>>("mllama") {
        let (tiles, grid) = config.tiles(&drawn(case.size, &case.kind)).expect("possible");
        case.check_tiles(&tiles);
        assert_eq!((Some(grid.aspect_ratio_id), grid.n_tiles()), (case.aspect_ratio_id, tiles.n_tiles));
    }
}

#[test]
fn smolvlm_tiles() {
    for case in recorded::<Vec<Processed>>("smolvlm") {
        let split = case.split.expect("recorded");
        let config = SmolVlmImageConfig { longest_edge: 84, tile: 28, split, ..SmolVlmImageConfig::default() };
        let tiles = config.tiles(&drawn(case.size, &case.kind)).expect("possible");
        case.check_tiles_by(&tiles, Normalisation::HALF);
        let grid = config.grid(case.size.0, case.size.1).expect("possible");
        assert_eq!((grid.n_tiles(), Some((grid.rows, grid.columns))), (tiles.n_tiles, case.tiles), "{:?}", case.size);
    }
}

#[test]
fn clip_crops() {
    let config = ClipImageConfig { shortest_edge: 42, crop: 28, ..ClipImageConfig::default() };
    for case in recorded::<Vec<Processed>>("clip") {
        case.check_tiles(&config.tile(&drawn(case.size, &case.kind)).expect("possible"));
    }
    let config = ClipImageConfig { shortest_edge: 20, crop: 33, ..ClipImageConfig::default() };
    for case in recorded::<Vec<Processed>>("clip_padded") {
        case.check_tiles(&config.tile(&drawn(case.size, &case.kind)).expect("possible"));
    }
}

/// Width and height, and two pairs of expected sizes.
type MllamaCase = (u32, u32, (u32, u32), (u32, u32));

/// Width and height, and the rows and columns of tiles under two settings.
type SplitCase = (u32, u32, (usize, usize), (usize, usize));

#[derive(Deserialize)]
struct Layouts {
    qwen2_vl: Vec<(u32, u32, Option<usize>)>,
    llava_next: Vec<(u32, u32, (u32, u32), usize)>,
    mllama: Vec<MllamaCase>,
    smolvlm: Vec<SplitCase>,
}

#[test]
fn the_layout_follows_from_sizes_alone() {
    let layouts: Layouts = recorded("layouts");
    let config = Qwen2VlImageConfig { max_pixels: 12_845_056, ..Qwen2VlImageConfig::default() };
    for (width, height, n_patches) in layouts.qwen2_vl {
        let grid = config.grid_from_size(width, height);
        assert_eq!(grid.as_ref().map(|grid| grid.n_patches()).ok(), n_patches, "{width}x{height}");
        assert_eq!(grid.is_err(), matches!(grid, Err(PreprocessError::AspectRatio { .. })));
    }
    let config = LlavaNextImageConfig::default();
    for (width, height, canvas, n_features) in layouts.llava_next {
        assert_eq!(config.canvas(width, height).expect("possible"), canvas, "{width}x{height}");
        assert_eq!(config.layout(width, height, 14).expect("possible").n_features(), n_features, "{width}x{height}");
    }
    let of = |longest_edge, tile| SmolVlmImageConfig { longest_edge, tile, ..SmolVlmImageConfig::default() };
    for (width, height, small, large) in layouts.smolvlm {
        for (config, (rows, columns)) in [(of(2048, 512), small), (of(1400, 384), large)] {
            assert_eq!(config.grid(width, height), Ok(SplitGrid { rows, columns }), "{width}x{height}");
        }
    }
    let config = MllamaImageConfig::default();
    for (width, height, canvas, fitted) in layouts.mllama {
        let grid = config.grid_from_size(width, height).expect("possible");
        assert_eq!((grid.rows * 560, grid.columns * 560), canvas, "{width}x{height}");
        let size = config.scaled_size(width, height).expect("possible");
        assert_eq!((size.1, size.0), fitted, "{width}x{height}");
    }
}

#[test]
fn config_files_of_both_layouts() {
    let hub = r#"{"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor"}"#;
    let five = r#"{"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 12845056}, "patch_size": 14,
        "merge_size": 2, "temporal_patch_size": 2, "resample": 3, "rescale_factor": 0.00392156862745098},
        "processor_class": "Qwen2VLProcessor"}"#;
    let read = |text: &str| Qwen2VlImageConfig::from_json(text).expect("valid");
    assert_eq!(read(hub), read(five));
    assert_eq!(read(&read(hub).to_json().to_string()), read(hub));
    assert_eq!(read(hub).max_pixels, 12_845_056);

    let anyres = r#"{"crop_size": {"height": 336, "width": 336}, "size": {"shortest_edge": 336}, "resample": 3,
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]}"#;
    assert_eq!(LlavaNextImageConfig::from_json(anyres), Ok(LlavaNextImageConfig::default()));
    let canvas = r#"{"size": {"height": 560, "width": 560}, "max_image_tiles": 4, "resample": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}"#;
    assert_eq!(MllamaImageConfig::from_json(canvas), Ok(MllamaImageConfig::default()));
    // What is left out is the default of transformers' class, which is not that of the published checkpoints.
    let empty = MllamaImageConfig::from_json("{}").expect("the class's");
    assert_eq!((empty.tile, empty.normalisation), (224, Normalisation::HALF));
    let empty = LlavaNextImageConfig::from_json(r#"{"image_grid_pinpoints": [[224, 448]]}"#).expect("the class's");
    assert_eq!(empty.tile, 224);
    let split = r#"{"size": {"longest_edge": 1456}, "max_image_size": {"longest_edge": 364}, "do_image_splitting": true,
        "resample": 1, "do_pad": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    assert_eq!(SmolVlmImageConfig::from_json(split), Ok(SmolVlmImageConfig::default()));
    let clip = r#"{"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 3}"#;
    assert_eq!(ClipImageConfig::from_json(clip), Ok(ClipImageConfig::default()));
}

#[test]
fn config_files_that_cannot_be_followed_are_named() {
    let field = |text: &str| match Qwen2VlImageConfig::from_json(text) {
        Err(PreprocessError::Config { field, .. }) => field,
        other => panic!("expected an error, got {other:?}"),
    };
    assert_eq!(field("{"), "(file)");
    assert_eq!(field("[]"), "(file)");
    assert_eq!(field(r#"{"patch_size": 0}"#), "patch_size");
    assert_eq!(field(r#"{"min_pixels": 10, "max_pixels": 5}"#), "min_pixels");
    assert_eq!(field(r#"{"resample": 0}"#), "resample");
    assert_eq!(field(r#"{"image_std": [0, 1, 1]}"#), "image_std");
    assert_eq!(field(r#"{"do_resize": false}"#), "do_resize");
    assert_eq!(field(r#"{"patch_size": 1000000000}"#), "patch_size");
    assert_eq!(field(r#"{"merge_size": -2}"#), "merge_size");
    assert_eq!(field(r#"{"temporal_patch_size": "two"}"#), "temporal_patch_size");
    assert_eq!(field(r#"{"min_pixels": 1000000000000, "max_pixels": 2000000000000}"#), "min_pixels");
    assert_eq!(field(r#"{"image_mean": [0.5, 0.5]}"#), "image_mean");
    assert_eq!(field(r#"{"image_mean": [1e300, 0, 0]}"#), "image_mean");
    assert_eq!(field(r#"{"image_std": [1e-300, 1, 1]}"#), "image_std");
    assert_eq!(field(r#"{"rescale_factor": 0}"#), "rescale_factor");
    assert_eq!(field(r#"{"rescale_factor": -1}"#), "rescale_factor");
    assert_eq!(field(r#"{"do_center_crop": true}"#), "do_center_crop");
    let mllama = |text: &str| MllamaImageConfig::from_json(text).expect_err("impossible").to_string();
    assert!(mllama(r#"{"do_pad": false}"#).contains("do_pad"));
    assert!(mllama(r#"{"size": {"shortest_edge": 56}}"#).contains("size"));
    assert!(mllama(r#"{"size": 4000000000}"#).contains("size"));
    let huge = r#"{"crop_size": 14, "size": 14, "image_grid_pinpoints": [[14000000, 14000000]]}"#;
    assert!(LlavaNextImageConfig::from_json(huge).expect_err("huge").to_string().contains("image_grid_pinpoints"));
    let uneven = r#"{"crop_size": 336, "size": 336, "image_grid_pinpoints": [[336, 500]]}"#;
    let error = LlavaNextImageConfig::from_json(uneven).expect_err("not a multiple").to_string();
    assert!(error.contains("image_grid_pinpoints") && error.contains("(336, 500)"), "{error}");
}
