//! Weights of linear layers that are not trained, without a copy of the file; and those that bitsandbytes has packed.

use adamllm_nn::{BlockScales, FourBit, FrozenWeight, float_dtype};
use burn::tensor::DType;
use safetensors::Dtype;

use super::values;
use super::weights::{TensorHeader, WeightFiles};

/// What bitsandbytes calls the tensor that tells how the weight beside it was packed.
const STATES: [&str; 2] = ["quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4"];
/// The tensors beside a packed weight.
const PARTS: [&str; 4] = ["absmax", "quant_map", "nested_absmax", "nested_quant_map"];

/// How a weight was packed, as bitsandbytes writes it in JSON.
#[derive(serde::Deserialize)]
struct QuantState {
    blocksize: usize,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

impl WeightFiles {
    /// The keys of the tensors that belong to a weight that bitsandbytes has packed in 4 bits; none for any other.
    pub(crate) fn packed_parts(&self, key: &str) -> Vec<String> {
        let beside = |name: &str| Some(format!("{key}.{name}")).filter(|key| self.contains_stored(key));
        match STATES.iter().find_map(|state| beside(state)) {
            None => Vec::new(),
            Some(state) => PARTS.iter().filter_map(|part| beside(part)).chain([state]).collect(),
        }
    }

    /// Whether bitsandbytes has packed any weight in 4 bits.
    pub(crate) fn is_packed(&self) -> bool {
        self.keys().any(|key| STATES.iter().any(|state| key.ends_with(state)))
    }

    /// The weight of a linear layer as it stands under `key`: mapped, and checked to be finite.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn frozen(&self, key: &str, shape: [usize; 2]) -> Result<FrozenWeight, String> {
        if let Some(state) = self.packed_parts(key).pop() {
            return self.packed(key, &state, shape);
        }
        let (bytes, TensorHeader { dtype, shape: stored }) = self.mapped(key).ok_or("missing")?;
        if stored[..] != shape {
            return Err(format!("expected shape {shape:?}, got {stored:?}"));
        }
        let dtype = float_dtype(*dtype).ok_or_else(|| format!("expected F32, F16 or BF16, got {dtype:?}"))?;
        values::check(bytes.as_slice(), dtype).map_err(|index| format!("value {index} is not finite"))?;
        FrozenWeight::stored(shape, dtype, bytes)
    }

    /// A weight in 4 bits, with the JSON of its state under `state`.
    fn packed(&self, key: &str, state: &str, shape: [usize; 2]) -> Result<FrozenWeight, String> {
        let tensor = |part: &str| {
            let found = self.mapped(&format!("{key}.{part}"));
            found.ok_or_else(|| format!("packed in 4 bits, and {key}.{part} is missing"))
        };
        let floats = |part: &str| -> Result<Vec<f32>, String> {
            let (bytes, header) = tensor(part)?;
            if header.dtype != Dtype::F32 {
                return Err(format!("expected {key}.{part} in F32, got {:?}", header.dtype));
            }
            let values = values::read(bytes.as_slice(), header.shape.clone(), DType::F32, DType::F32);
            let values = values.map_err(|index| format!("value {index} of {key}.{part} is not finite"))?;
            Ok(values.try_into_vec().expect("values in f32"))
        };

        let (json, _) = self.mapped(state).ok_or("missing")?;
        let read: QuantState = serde_json::from_slice(json.as_slice()).map_err(|e| format!("{state}: {e}"))?;
        if read.shape != shape {
            return Err(format!("expected shape {shape:?}, got {:?}", read.shape));
        }
        let (codes, header) = self.mapped(key).ok_or("missing")?;
        if header.dtype != Dtype::U8 {
            return Err(format!("expected 4-bit codes in U8, got {:?}", header.dtype));
        }

        let table = floats("quant_map")?;
        let table = table.try_into().map_err(|table: Vec<f32>| format!("expected 16 levels, got {}", table.len()))?;
        let scales = match (read.nested_blocksize, read.nested_offset) {
            (Some(nested_block), Some(offset)) => {
                let levels: Box<[f32]> = floats("nested_quant_map")?.into();
                let levels: Box<[f32; 256]> = levels.try_into().map_err(|_| "expected 256 levels of scales")?;
                let (codes, _) = tensor("absmax")?;
                let nested = floats("nested_absmax")?;
                BlockScales::Double { codes: codes.as_slice().to_vec(), table: levels, nested, nested_block, offset }
            }
            _ => BlockScales::Plain(floats("absmax")?),
        };
        FrozenWeight::four_bit(shape, FourBit::new(codes, table, read.blocksize, scales))
    }
}
