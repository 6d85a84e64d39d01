//! Writes the mini world for other frameworks: `mini-rows FOLDER SEED N` puts the data set, the model folders without
//! weights, and N rows of each training stream (JSONL, pictures as PNG files) into FOLDER.

use std::error::Error;
use std::path::{Path, PathBuf};

use adamllm_core::jsonl;
use adamllm_examples::mini::{
    ChatModelSize, DatasetSize, JudgeSize, Supervised, TrainingRow, base_training, chat_tokenizer, judge_tokenizer,
    judge_training, synthesizer_training, write_chat_model_files, write_dataset, write_judge_files,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seed, count] = &arguments[..] else {
        return Err("expected: mini-rows FOLDER SEED N".into());
    };
    let (folder, seed, count) = (PathBuf::from(folder), seed.parse()?, count.parse()?);
    write_dataset(folder.join("dataset"), seed, &DatasetSize::default())?;
    write_chat_model_files(folder.join("chat"), &chat_tokenizer(seed, &[])?, &ChatModelSize::default())?;
    write_judge_files(folder.join("judge"), &judge_tokenizer(seed)?, &JudgeSize::default())?;
    write_rows(&folder, "base", base_training(seed).take(count))?;
    write_rows(&folder, "synthesizer", synthesizer_training(seed).take(count))?;
    let judge = judge_training(seed).take(count);
    let judge: Vec<Value> = judge.map(|row| json!({"prompt": row.prompt, "continuation": row.continuation})).collect();
    jsonl::write(folder.join("judge.jsonl"), &judge)?;
    Ok(())
}

fn write_rows(folder: &Path, name: &str, rows: impl Iterator<Item = TrainingRow>) -> Result<(), Box<dyn Error>> {
    let pictures = folder.join(name);
    std::fs::create_dir_all(&pictures)?;
    let mut lines = Vec::new();
    for (n, row) in rows.enumerate() {
        let picture = row.picture.map(|picture| (format!("{name}/{n:06}.png"), picture));
        if let Some((file, picture)) = &picture {
            picture.save(folder.join(file))?;
        }
        let from = if row.supervised == Supervised::AfterFirstExchange { "after_first_exchange" } else { "assistant" };
        let file = picture.map(|(file, _)| file);
        lines.push(json!({"messages": row.conversation.messages, "picture": file, "supervised": from}));
    }
    jsonl::write(folder.join(format!("{name}.jsonl")), &lines)?;
    Ok(())
}
