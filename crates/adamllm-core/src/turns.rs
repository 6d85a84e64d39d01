use serde::{Deserialize, Serialize};

/// The literal texts with which a chat template opens and closes turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnMarkers {
    /// Closes a turn, such as `<|eot_id|>`.
    pub end_of_turn: String,
    /// What stands between [`TurnMarkers::end_of_turn`] and the next header (a newline in ChatML, nothing in Llama 3).
    pub separator: String,
    /// Opens a user turn.
    pub user_header: String,
    /// Opens an assistant turn.
    pub assistant_header: String,
}

impl TurnMarkers {
    /// Llama 3's headers.
    pub fn llama3() -> Self {
        Self {
            end_of_turn: "<|eot_id|>".into(),
            separator: String::new(),
            user_header: "<|start_header_id|>user<|end_header_id|>\n\n".into(),
            assistant_header: "<|start_header_id|>assistant<|end_header_id|>\n\n".into(),
        }
    }

    /// ChatML, which the Qwen families use.
    pub fn chatml() -> Self {
        Self {
            end_of_turn: "<|im_end|>".into(),
            separator: "\n".into(),
            user_header: "<|im_start|>user\n".into(),
            assistant_header: "<|im_start|>assistant\n".into(),
        }
    }
}
