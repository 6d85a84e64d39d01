use adamllm_model::Preset;

use super::*;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configs")
}

/// Every ready file parses, is valid, and comes back from what is saved with a run.
#[test]
fn every_ready_file_is_valid() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(configs()).expect("the folder") {
        let path = entry.expect("an entry").path();
        let config = PostTrainSettings::read(&path, &[]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let saved = folder.path().join("config.toml");
        std::fs::write(&saved, settings::write(&config).expect("TOML")).expect("written");
        assert_eq!(PostTrainSettings::read(&saved, &[]).expect("its own output"), config, "{}", path.display());
        names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    for domain in ["biomed", "food", "remote_sensing"] {
        for model in ["qwen2_vl_2b", "qwen2_5_vl_3b", "llava_next_llama3_8b", "llama_3_2_11b_vision"] {
            assert!(names.contains(&format!("{domain}_{model}")), "{domain}_{model}");
        }
    }
    assert!(names.contains(&"food_smolvlm_256m".to_owned()), "a run that the paper has not");
    assert_eq!(names.len(), 12 + 4);
}

/// What PEFT's users set, in TOML, with each key's default, and back from what is saved with a run.
#[test]
fn adapters_have_their_settings() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, saved) = (folder.path().join("job.toml"), folder.path().join("config.toml"));
    let job = "[model]\nfolder = \"m\"\n[[data.sources]]\ncaptions = \"c.json\"\n[adapter]\nrank = 8\nalpha = 16\n";
    let read = |rest: &str| {
        std::fs::write(&file, format!("{job}{rest}")).expect("written");
        PostTrainSettings::read(&file, &[])
    };
    let plain = read("").expect("valid").adapter.expect("an adapter");
    assert_eq!(plain, LoraConfig::new(8, 16.0));

    let rest = "targets = 'all-linear'\ndropout = 0.05\nrslora = true\nmodules_to_save = ['connector', 'lm_head']\n\
                [adapter.rank_pattern]\n'vision\\..*' = 4\n[adapter.alpha_pattern]\nquery = 2.5\n";
    let config = read(rest).expect("valid");
    let adapter = config.adapter.as_ref().expect("an adapter");
    assert_eq!(adapter.targets, adamllm_nn::LoraTargets::AllLinear);
    assert_eq!((adapter.dropout, adapter.rslora, adapter.rank_pattern[r"vision\..*"]), (0.05, true, 4));
    std::fs::write(&saved, settings::write(&config).expect("TOML")).expect("written");
    assert_eq!(PostTrainSettings::read(&saved, &[]).expect("its own output"), config);

    let adapter = read("targets = 'language\\..*'\n").expect("valid").adapter.expect("an adapter");
    assert_eq!(adapter.targets, adamllm_nn::LoraTargets::Pattern(r"language\..*".into()));

    let error = read("dropout = 1.0\n").expect_err("drops all").to_string();
    assert!(error.contains("`adapter.dropout`"), "{error}");
}

/// The paper's table of settings.
#[test]
fn ready_files_say_what_the_paper_says() {
    for domain in ["biomed", "food", "remote_sensing"] {
        for (model, rate, vision, decay, warmup) in [
            ("qwen2_vl_2b", 1e-5, None, 0.1, 0.1),
            ("qwen2_5_vl_3b", 1e-5, None, 0.1, 0.1),
            ("llava_next_llama3_8b", 2e-5, Some(2e-6), 0.0, 0.03),
            ("llama_3_2_11b_vision", 5e-6, None, 0.1, 0.1),
        ] {
            let config =
                PostTrainSettings::read(&configs().join(format!("{domain}_{model}.toml")), &[]).expect("valid");
            let train = &config.train;
            assert_eq!((train.learning_rate, train.weight_decay, train.schedule.warmup), (rate, decay, warmup));
            assert_eq!((train.epochs, train.batch_size, train.save_every), (1.0, 128, Some(500)));
            assert_eq!((config.encoding.max_tokens, train.max_gradient_norm), (Some(6144), Some(1.0)));
            assert_eq!(config.parts.vision.and_then(|part| part.learning_rate), vision, "{model}");
            let groups = config.training().groups;
            let frozen: Vec<_> = groups.iter().filter(|group| group.frozen).map(|g| g.prefix.as_str()).collect();
            let encoder = ["vision.encoder.", "vision.patch_embedding.", "vision.blocks.", "vision.merger."];
            let qwen = model.starts_with("qwen");
            assert_eq!(encoder.iter().all(|prefix| frozen.contains(prefix)), qwen, "{model}: {frozen:?}");
        }
    }
    let synthesizer = PostTrainSettings::read(&configs().join("synthesizer.toml"), &[]).expect("valid");
    assert_eq!(synthesizer.train.epochs, 2.0);
    assert_eq!(synthesizer.encoding.supervision, adamllm_core::Supervision::AfterFirstExchange);
    assert_eq!(synthesizer.encoding.preset, Preset::ChatTemplate);
}

/// A part is several beginnings of names, of which a family has some.
#[test]
fn groups_are_those_of_the_model() {
    let config = PostTrainSettings::read(&configs().join("food_qwen2_vl_2b.toml"), &[]).expect("valid");
    let names = ["vision.blocks.0.norm1.weight", "vision.merger.norm.weight", "language.embedding"];
    let groups = config.training_of(&names).expect("both parts are there").groups;
    let prefixes: Vec<_> = groups.iter().map(|group| group.prefix.as_str()).collect();
    assert_eq!(prefixes, ["vision.blocks.", "vision.merger."]);
    let error = config.training_of(&names[1..]).expect_err("no encoder").to_string();
    assert!(error.contains("`parts.vision`"), "{error}");
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("job.toml");
    let text =
        "[model]\nfolder = \"org/name\"\n[[data.sources]]\nconversations = \"../rows.jsonl\"\nimages = [\"a\"]\n";
    std::fs::write(&file, text).expect("written");
    let config = PostTrainSettings::read(&file, &["data.sources.0.weight=0.5".into()]).expect("valid");
    assert_eq!(config.model.folder, "org/name");
    let source = &config.data.sources[0];
    assert_eq!(source.conversations, Some(folder.path().parent().expect("a parent").join("rows.jsonl")));
    assert_eq!((source.images.as_slice(), source.weight), (&[folder.path().join("a")][..], 0.5));
}

#[test]
fn what_cannot_be_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("job.toml");
    std::fs::write(&file, "[model]\nfolder = \"m\"\n[[data.sources]]\ncaptions = \"c.json\"\n").expect("written");
    let fault =
        |assignment: &str| PostTrainSettings::read(&file, &[assignment.into()]).expect_err("at fault").to_string();
    assert!(fault("data.sources.0.weight=0").contains("`data.sources.0.weight`"));
    assert!(fault("data.sources.0.conversations=x").contains("`data.sources.0.conversations`"));
    assert!(fault("export.kind=adapter").contains("`export.kind`"));
    assert!(fault("train.batch_size=0").contains("batch_size"));
    assert!(fault("train.lerning_rate=1").ends_with("did you mean `train.learning_rate`?"));
    assert!(fault("encoding.max_token=1").ends_with("did you mean `encoding.max_tokens`?"));
    assert!(fault("model.dtype=f64").contains("`model.dtype`"));
}

#[test]
fn a_run_goes_on_with_the_settings_that_made_it() {
    let config = PostTrainSettings::default();
    let mut other = config.clone();
    (other.train.log_every, other.data.workers) = (7, 3);
    assert_eq!(config.differs_from(&other).expect("plain values"), None);
    other.encoding.max_tokens = Some(99);
    let (key, ..) = config.differs_from(&other).expect("plain values").expect("differs");
    assert_eq!(key, "encoding.max_tokens");
}
