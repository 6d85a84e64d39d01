//! Single values of Arrow columns.

use std::sync::Arc;

use adamllm_core::json::unreadable;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, ArrowTemporalType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, RunEndIndexType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_buffer::{ArrowNativeType, Buffer};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Map, Number, Value};

use crate::ImageFormat;

/// A value as JSON, as Python's `str` shows it where JSON has no such kind (dates, decimals). `reference` is what an image at
/// this value is called. A kind that has no form here becomes [`unreadable`]: it costs something only where it is asked for.
pub(super) fn to_json(column: &ArrayRef, i: usize, reference: &str) -> Value {
    if column.is_null(i) {
        return Value::Null;
    }
    match column.data_type() {
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
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(i).to_f64()),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(i).into()),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(i)),
        DataType::Decimal32(..) => column.as_primitive::<Decimal32Type>().value_as_string(i).into(),
        DataType::Decimal64(..) => column.as_primitive::<Decimal64Type>().value_as_string(i).into(),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(i).into(),
        DataType::Decimal256(..) => column.as_primitive::<Decimal256Type>().value_as_string(i).into(),
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => {
            moment(column, i).map_or_else(|| other(column.data_type()), Value::String)
        }
        DataType::Utf8 => column.as_string::<i32>().value(i).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(i).into(),
        DataType::Utf8View => column.as_string_view().value(i).into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            binary(column, i, reference)
        }
        DataType::List(_) => list(&column.as_list::<i32>().value(i), reference),
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(i), reference),
        DataType::ListView(_) => list(&column.as_list_view::<i32>().value(i), reference),
        DataType::LargeListView(_) => list(&column.as_list_view::<i64>().value(i), reference),
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(i), reference),
        DataType::Map(..) => map(&column.as_map().value(i), reference),
        DataType::Struct(_) => structure(column.as_struct(), i, reference),
        DataType::Dictionary(..) => match dictionary_value(column, i) {
            Some((values, key)) => to_json(&values, key, reference),
            None => Value::Null,
        },
        DataType::RunEndEncoded(..) => match run_value(column, i) {
            Some((values, run)) => to_json(&values, run, reference),
            None => other(column.data_type()),
        },
        kind => other(kind),
    }
}

fn other(kind: &DataType) -> Value {
    unreadable(format!("a value of type {kind}"))
}

fn float(value: f64) -> Value {
    let name = if value.is_nan() { "NaN" } else { "Infinity" };
    Number::from_f64(value).map_or_else(|| unreadable(name), Value::Number)
}

/// A date, a time of day, or a moment, as Python's `datetime` prints it; `None` for one in another time zone than UTC.
fn moment(column: &ArrayRef, i: usize) -> Option<String> {
    let text = match column.data_type() {
        DataType::Date32 => return Some(column.as_primitive::<Date32Type>().value_as_date(i)?.to_string()),
        DataType::Date64 => return Some(column.as_primitive::<Date64Type>().value_as_date(i)?.to_string()),
        DataType::Time32(TimeUnit::Second) => time::<Time32SecondType>(column, i)?,
        DataType::Time32(_) => time::<Time32MillisecondType>(column, i)?,
        DataType::Time64(TimeUnit::Microsecond) => time::<Time64MicrosecondType>(column, i)?,
        DataType::Time64(_) => time::<Time64NanosecondType>(column, i)?,
        DataType::Timestamp(TimeUnit::Second, _) => date_time::<TimestampSecondType>(column, i)?,
        DataType::Timestamp(TimeUnit::Millisecond, _) => date_time::<TimestampMillisecondType>(column, i)?,
        DataType::Timestamp(TimeUnit::Microsecond, _) => date_time::<TimestampMicrosecondType>(column, i)?,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => date_time::<TimestampNanosecondType>(column, i)?,
        _ => return None,
    };

    // Python leaves the fraction out where it is zero.
    let text = text.strip_suffix(".000000").unwrap_or(&text).to_owned();
    match column.data_type() {
        DataType::Timestamp(_, Some(zone)) if matches!(&**zone, "UTC" | "+00:00" | "Etc/UTC" | "Z") => {
            Some(text + "+00:00")
        }
        DataType::Timestamp(_, Some(_)) => None,
        _ => Some(text),
    }
}

fn time<T: ArrowTemporalType>(column: &ArrayRef, i: usize) -> Option<String>
where
    i64: From<T::Native>,
{
    Some(column.as_primitive::<T>().value_as_time(i)?.format("%H:%M:%S%.6f").to_string())
}

fn date_time<T: ArrowTemporalType>(column: &ArrayRef, i: usize) -> Option<String>
where
    i64: From<T::Native>,
{
    Some(column.as_primitive::<T>().value_as_datetime(i)?.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

fn list(values: &ArrayRef, reference: &str) -> Value {
    (0..values.len()).map(|k| to_json(values, k, &format!("{reference}/{k}"))).collect()
}

/// A map whose keys are texts or numbers, as an object.
fn map(entries: &StructArray, reference: &str) -> Value {
    let mut members = Map::new();
    for i in 0..entries.len() {
        let [keys, values] = entries.columns() else { return other(entries.data_type()) };
        let key = match to_json(keys, i, reference) {
            Value::String(key) => key,
            key @ (Value::Number(_) | Value::Bool(_)) => key.to_string(),
            _ => return other(entries.data_type()),
        };
        let value = to_json(values, i, &format!("{reference}/{key}"));
        members.insert(key, value);
    }
    Value::Object(members)
}

/// An image's reference, or the members by name. An image without bytes is known by its path.
fn structure(values: &StructArray, i: usize, reference: &str) -> Value {
    if let Some(bytes) = image_bytes(values) {
        if !bytes.is_null(i) {
            return Value::String(reference.to_owned());
        }
        return match values.column_by_name("path").map(|paths| to_json(paths, i, reference)) {
            Some(Value::String(path)) if !path.is_empty() => Value::String(path),
            _ => Value::Null,
        };
    }
    let mut members = Map::new();
    for (field, column) in values.fields().iter().zip(values.columns()) {
        let value = to_json(column, i, &format!("{reference}/{}", field.name()));
        members.insert(field.name().clone(), value);
    }
    Value::Object(members)
}

/// The bytes of a column of images as `datasets` keeps them, with or without any bytes at all.
fn image_bytes(values: &StructArray) -> Option<&ArrayRef> {
    let bytes = values.column_by_name("bytes")?;
    match bytes.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(bytes),
        DataType::Null if values.column_by_name("path").is_some() => Some(bytes),
        _ => None,
    }
}

/// Plain bytes are an image where they begin like one.
fn binary(column: &ArrayRef, i: usize, reference: &str) -> Value {
    let bytes = bytes(column, i);
    let slice = bytes.as_ref().map(Buffer::as_slice).unwrap_or_default();
    match ImageFormat::of(slice) {
        Ok(_) => Value::String(reference.to_owned()),
        Err(_) => {
            let start: String = slice.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            unreadable(format!("{} bytes that are no image and begin with {start}", slice.len()))
        }
    }
}

/// The values of a dictionary, and which of them a row has.
fn dictionary_value(column: &ArrayRef, i: usize) -> Option<(ArrayRef, usize)> {
    fn of<K: ArrowDictionaryKeyType>(column: &ArrayRef, i: usize) -> Option<(ArrayRef, usize)> {
        let dictionary = column.as_dictionary::<K>();
        let key = dictionary.keys().value(i).to_usize()?;
        (key < dictionary.values().len()).then(|| (dictionary.values().clone(), key))
    }
    let DataType::Dictionary(kind, _) = column.data_type() else { return None };
    match **kind {
        DataType::Int8 => of::<Int8Type>(column, i),
        DataType::Int16 => of::<Int16Type>(column, i),
        DataType::Int32 => of::<Int32Type>(column, i),
        DataType::Int64 => of::<Int64Type>(column, i),
        DataType::UInt8 => of::<UInt8Type>(column, i),
        DataType::UInt16 => of::<UInt16Type>(column, i),
        DataType::UInt32 => of::<UInt32Type>(column, i),
        DataType::UInt64 => of::<UInt64Type>(column, i),
        _ => None,
    }
}

/// The values of a column of runs, and which of them a row has.
fn run_value(column: &ArrayRef, i: usize) -> Option<(ArrayRef, usize)> {
    fn of<R: RunEndIndexType>(column: &ArrayRef, i: usize) -> Option<(ArrayRef, usize)> {
        let runs = column.as_run_opt::<R>()?;
        Some((Arc::clone(runs.values()), runs.get_physical_index(i)))
    }
    of::<Int32Type>(column, i).or_else(|| of::<Int64Type>(column, i)).or_else(|| of::<Int16Type>(column, i))
}

/// The bytes of the image that the rest of a reference leads to, without copying them.
pub(super) fn image<'a>(column: ArrayRef, i: usize, steps: &mut impl Iterator<Item = &'a str>) -> Option<Buffer> {
    if i >= column.len() || column.is_null(i) {
        return None;
    }

    let mut step = || steps.next()?.parse().ok();

    match column.data_type() {
        DataType::List(_) => image(column.as_list::<i32>().value(i), step()?, steps),
        DataType::LargeList(_) => image(column.as_list::<i64>().value(i), step()?, steps),
        DataType::ListView(_) => image(column.as_list_view::<i32>().value(i), step()?, steps),
        DataType::LargeListView(_) => image(column.as_list_view::<i64>().value(i), step()?, steps),
        DataType::FixedSizeList(..) => image(column.as_fixed_size_list().value(i), step()?, steps),
        DataType::Struct(_) => {
            let values = column.as_struct();

            // The struct of `datasets.Image` (bytes and path) needs no step of its own.
            match image_bytes(values) {
                Some(column) => bytes(column, i),
                None => image(values.column_by_name(steps.next()?)?.clone(), i, steps),
            }
        }
        DataType::Dictionary(..) => {
            let (values, key) = dictionary_value(&column, i)?;
            image(values, key, steps)
        }
        _ => bytes(&column, i),
    }
}

fn bytes(column: &ArrayRef, i: usize) -> Option<Buffer> {
    if column.is_null(i) {
        return None;
    }

    // Values of the plain kinds lie in one buffer, of which a slice is no copy.
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
        DataType::FixedSizeBinary(_) => Some(Buffer::from(column.as_fixed_size_binary().value(i).to_vec())),
        _ => None,
    }
}
