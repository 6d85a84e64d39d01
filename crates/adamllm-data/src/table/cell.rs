//! Single values of Arrow columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_buffer::Buffer;
use arrow_schema::DataType;
use serde_json::{Map, Value};

/// A value as JSON; `reference` is what a picture at this place is called. `Err` names a type that has no JSON form here.
pub(super) fn to_json(column: &ArrayRef, i: usize, reference: &str) -> Result<Value, String> {
    if column.is_null(i) {
        return Ok(Value::Null);
    }
    let value = match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => column.as_boolean().value(i).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(i).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(i).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(i).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(i).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(i).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(i).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(i).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(i).into(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(i).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(i).into(),
        DataType::Utf8 => column.as_string::<i32>().value(i).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(i).into(),
        DataType::Utf8View => column.as_string_view().value(i).into(),
        DataType::List(_) => list(&column.as_list::<i32>().value(i), reference)?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(i), reference)?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(i), reference)?,
        DataType::Struct(_) => structure(column.as_struct(), i, reference)?,
        other => return Err(other.to_string()),
    };
    Ok(value)
}

fn list(values: &ArrayRef, reference: &str) -> Result<Value, String> {
    (0..values.len())
        .map(|k| to_json(values, k, &format!("{reference}/{k}")))
        .collect::<Result<_, _>>()
        .map(Value::Array)
}

/// A picture's reference, or the members by name.
fn structure(values: &StructArray, i: usize, reference: &str) -> Result<Value, String> {
    if is_picture(values) {
        return Ok(Value::String(reference.to_owned()));
    }
    let mut members = Map::new();
    for (field, column) in values.fields().iter().zip(values.columns()) {
        let value = to_json(column, i, &format!("{reference}/{}", field.name()))?;
        members.insert(field.name().clone(), value);
    }
    Ok(Value::Object(members))
}

fn is_picture(values: &StructArray) -> bool {
    let bytes = values.column_by_name("bytes").map(|column| column.data_type());
    matches!(bytes, Some(DataType::Binary | DataType::LargeBinary | DataType::BinaryView))
}

/// The bytes of the picture that the rest of a reference leads to, without copying them.
pub(super) fn picture<'a>(column: ArrayRef, i: usize, steps: &mut impl Iterator<Item = &'a str>) -> Option<Buffer> {
    if i >= column.len() || column.is_null(i) {
        return None;
    }
    match column.data_type() {
        DataType::List(_) => picture(column.as_list::<i32>().value(i), steps.next()?.parse().ok()?, steps),
        DataType::LargeList(_) => picture(column.as_list::<i64>().value(i), steps.next()?.parse().ok()?, steps),
        DataType::FixedSizeList(..) => {
            picture(column.as_fixed_size_list().value(i), steps.next()?.parse().ok()?, steps)
        }
        DataType::Struct(_) => {
            let values = column.as_struct();
            if !is_picture(values) {
                return picture(values.column_by_name(steps.next()?)?.clone(), i, steps);
            }
            bytes(values.column_by_name("bytes")?, i)
        }
        _ => None,
    }
}

fn bytes(column: &ArrayRef, i: usize) -> Option<Buffer> {
    if column.is_null(i) {
        return None;
    }
    let slice = |buffer: &Buffer, start: usize, end: usize| buffer.slice_with_length(start, end - start);
    match column.data_type() {
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            let ends = values.value_offsets();
            Some(slice(values.values(), ends[i] as usize, ends[i + 1] as usize))
        }
        DataType::LargeBinary => {
            let values = column.as_binary::<i64>();
            let ends = values.value_offsets();
            Some(slice(values.values(), ends[i] as usize, ends[i + 1] as usize))
        }
        DataType::BinaryView => Some(Buffer::from(column.as_binary_view().value(i).to_vec())),
        _ => None,
    }
}
