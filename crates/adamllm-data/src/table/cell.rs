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

#[cfg(test)]
mod tests {
    use adamllm_core::json::unreadable_text;
    use arrow_array::builder::{Int32Builder, MapBuilder, StringBuilder};
    use arrow_array::*;
    use arrow_schema::Field;
    use serde_json::json;

    use super::*;

    /// The last value of a column.
    fn last(column: impl Array + 'static) -> Value {
        let column: ArrayRef = Arc::new(column);
        to_json(&column, column.len() - 1, "5/x")
    }

    fn unreadable_last(column: impl Array + 'static) -> String {
        unreadable_text(&last(column)).expect("is marked").to_owned()
    }

    #[test]
    fn numbers_and_texts_are_themselves() {
        assert_eq!(last(BooleanArray::from(vec![false, true])), true);
        assert_eq!(last(Int8Array::from(vec![1, -8])), -8);
        assert_eq!(last(Int16Array::from(vec![1, -300])), -300);
        assert_eq!(last(Int32Array::from(vec![1, -70_000])), -70_000);
        assert_eq!(last(Int64Array::from(vec![1, i64::MIN])), i64::MIN);
        assert_eq!(last(UInt8Array::from(vec![1, 200])), 200);
        assert_eq!(last(UInt16Array::from(vec![1, 60_000])), 60_000);
        assert_eq!(last(UInt32Array::from(vec![1, u32::MAX])), u32::MAX);
        assert_eq!(last(UInt64Array::from(vec![1, u64::MAX])), u64::MAX);
        assert_eq!(last(Float32Array::from(vec![0.0, 0.5])), 0.5);
        assert_eq!(last(Float64Array::from(vec![0.0, -0.25])), -0.25);
        assert_eq!(last(StringArray::from(vec!["", "ä"])), "ä");
        assert_eq!(last(LargeStringArray::from(vec!["", "ä"])), "ä");
        assert_eq!(last(StringViewArray::from(vec!["", "ä"])), "ä");
        assert_eq!(last(Int32Array::from(vec![Some(1), None])), Value::Null);
        assert_eq!(last(NullArray::new(2)), Value::Null);
        assert_eq!(unreadable_last(Float64Array::from(vec![f64::NAN])), "NaN");
        assert_eq!(unreadable_last(Float32Array::from(vec![f32::NEG_INFINITY])), "Infinity");
        let interval = IntervalYearMonthArray::from(vec![3]);
        assert!(unreadable_last(interval).starts_with("a value of type Interval"));
        let money = Decimal128Array::from(vec![12_345]).with_precision_and_scale(10, 2).expect("fits");
        assert_eq!(last(money), "123.45");
        let money = Decimal64Array::from(vec![-5]).with_precision_and_scale(10, 2).expect("fits");
        assert_eq!(last(money), "-0.05");
    }

    /// As `str` writes them in Python.
    #[test]
    fn moments_are_pythons_texts() {
        assert_eq!(last(Date32Array::from(vec![0, 19_723])), "2024-01-01");
        assert_eq!(last(Date64Array::from(vec![0, 19_723 * 86_400_000])), "2024-01-01");
        assert_eq!(last(Time32SecondArray::from(vec![3661])), "01:01:01");
        assert_eq!(last(Time32MillisecondArray::from(vec![3_661_500])), "01:01:01.500000");
        assert_eq!(last(Time64MicrosecondArray::from(vec![3_661_000_002])), "01:01:01.000002");
        assert_eq!(last(Time64NanosecondArray::from(vec![3_661_000_002_000])), "01:01:01.000002");
        let day = 19_723 * 86_400;
        assert_eq!(last(TimestampSecondArray::from(vec![day + 1])), "2024-01-01 00:00:01");
        assert_eq!(last(TimestampMillisecondArray::from(vec![day * 1000 + 1])), "2024-01-01 00:00:00.001000");
        assert_eq!(last(TimestampMicrosecondArray::from(vec![day * 1_000_000])), "2024-01-01 00:00:00");
        assert_eq!(
            last(TimestampNanosecondArray::from(vec![day * 1_000_000_000 + 5000])),
            "2024-01-01 00:00:00.000005"
        );
        for zone in ["UTC", "+00:00", "Etc/UTC", "Z"] {
            let moment = TimestampSecondArray::from(vec![day]).with_timezone(zone);
            assert_eq!(last(moment), "2024-01-01 00:00:00+00:00", "{zone}");
        }
        let elsewhere = TimestampSecondArray::from(vec![day]).with_timezone("+02:00");
        assert!(
            unreadable_last(elsewhere).starts_with("a value of type Timestamp"),
            "another zone's rules are not known"
        );
    }

    #[test]
    fn lists_maps_and_encodings_are_what_they_hold() {
        let rows = || vec![Some(vec![Some(9)]), Some(vec![Some(1), None, Some(3)])];
        assert_eq!(last(ListArray::from_iter_primitive::<Int32Type, _, _>(rows())), json!([1, null, 3]));
        assert_eq!(last(LargeListArray::from_iter_primitive::<Int32Type, _, _>(rows())), json!([1, null, 3]));
        let pairs = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])],
            2,
        );
        assert_eq!(last(pairs), json!([3, null]));

        assert_eq!(last(["a", "b", "a"].into_iter().collect::<DictionaryArray<Int8Type>>()), "a");
        assert_eq!(last(["a", "b", "b"].into_iter().collect::<DictionaryArray<UInt16Type>>()), "b");
        assert_eq!(last(["a", "b", "b"].into_iter().collect::<RunArray<Int32Type>>()), "b");
        assert_eq!(last(["a", "a", "b"].into_iter().collect::<RunArray<Int16Type>>()), "b");

        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("one");
        map.values().append_value(1);
        map.keys().append_value("none");
        map.values().append_null();
        map.append(true).expect("as many keys as values");
        assert_eq!(last(map.finish()), json!({"one": 1, "none": null}));
        let mut map = MapBuilder::new(None, Int32Builder::new(), Int32Builder::new());
        map.keys().append_value(7);
        map.values().append_value(1);
        map.append(true).expect("as many keys as values");
        assert_eq!(last(map.finish()), json!({"7": 1}));
    }

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

    fn column(name: &str, values: impl Array + 'static) -> (Arc<Field>, ArrayRef) {
        (Arc::new(Field::new(name, values.data_type().clone(), true)), Arc::new(values))
    }

    #[test]
    fn an_image_is_its_place_in_the_table_and_found_there() {
        assert_eq!(last(BinaryArray::from(vec![&b""[..], PNG])), "5/x");
        assert_eq!(last(LargeBinaryArray::from(vec![&b""[..], PNG])), "5/x");
        assert_eq!(last(BinaryViewArray::from(vec![&b""[..], PNG])), "5/x");
        let no_image = "9 bytes that are no image and begin with 0102030405060708";
        assert_eq!(unreadable_last(BinaryArray::from(vec![&[1_u8, 2, 3, 4, 5, 6, 7, 8, 9][..]])), no_image);

        // `datasets.Image`: bytes, or a path, or neither.
        let bytes = || BinaryArray::from(vec![Some(PNG), None, None]);
        let paths = || StringArray::from(vec![Some("in.png"), Some("a.png"), Some("")]);
        let images: ArrayRef = Arc::new(StructArray::from(vec![column("bytes", bytes()), column("path", paths())]));
        let values: Vec<Value> = (0..3).map(|i| to_json(&images, i, "5/x")).collect();
        assert_eq!(values, [json!("5/x"), json!("a.png"), Value::Null]);
        let of = |column: &ArrayRef, i: usize, steps: &str| {
            let steps = &mut steps.split('/').filter(|step| !step.is_empty());
            image(Arc::clone(column), i, steps).map(|bytes| bytes.as_slice().to_vec())
        };
        assert_eq!([of(&images, 0, ""), of(&images, 1, ""), of(&images, 3, "")], [Some(PNG.to_vec()), None, None]);

        // Inside other structures the place has a step for each member and element.
        let inner = StructArray::from(vec![column("bytes", bytes()), column("path", paths())]);
        let outer: ArrayRef = Arc::new(StructArray::from(vec![column("view", inner)]));
        assert_eq!(to_json(&outer, 0, "5/x"), json!({"view": "5/x/view"}));
        assert_eq!(
            [of(&outer, 0, "view"), of(&outer, 0, "other"), of(&outer, 0, "")],
            [Some(PNG.to_vec()), None, None]
        );
        let list = |values: Vec<&[u8]>| -> ArrayRef {
            let values: ArrayRef = Arc::new(BinaryArray::from(values));
            let item = Arc::new(Field::new("item", DataType::Binary, true));
            let offsets = arrow_buffer::OffsetBuffer::from_lengths([1, values.len() - 1]);
            Arc::new(ListArray::new(item, offsets, values, None))
        };
        let images = list(vec![b"first", b"second", PNG]);
        assert_eq!(to_json(&images, 1, "5/x")[1], "5/x/1");
        assert_eq!([of(&images, 1, "1"), of(&images, 1, "0")], [Some(PNG.to_vec()), Some(b"second".to_vec())]);
        assert_eq!([of(&images, 1, "2"), of(&images, 1, "one"), of(&images, 1, "")], [None, None, None]);
        let fixed: ArrayRef = Arc::new(FixedSizeBinaryArray::new(4, Buffer::from(b"abcdefgh".to_vec()), None));
        assert_eq!(of(&fixed, 1, ""), Some(b"efgh".to_vec()));
    }
}
