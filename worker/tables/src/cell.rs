//! The types a column can have, and how each lies in an Arrow array. Used by the `table!` macro only.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    StringArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType};

/// A value of a column.
pub trait Cell: Sized {
    const NULLABLE: bool = false;
    type Array: Array + 'static;

    fn data_type() -> DataType;

    /// # Errors
    /// When the values do not fit one array (more than 2 GiB of text or bytes).
    fn collect<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> Result<ArrayRef, ArrowError>
    where
        Self: 'a;

    /// The value of a row that is not null.
    fn at(array: &Self::Array, row: usize) -> Self;
}

impl<T: Cell> Cell for Option<T> {
    const NULLABLE: bool = true;
    type Array = T::Array;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn collect<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> Result<ArrayRef, ArrowError>
    where
        Self: 'a,
    {
        T::collect(cells.map(|cell| cell.and_then(Option::as_ref)))
    }

    fn at(array: &Self::Array, row: usize) -> Self {
        array.is_valid(row).then(|| T::at(array, row))
    }
}

macro_rules! number_cell {
    ($($number:ty => $array:ty, $data_type:ident;)*) => {$(
        impl Cell for $number {
            type Array = $array;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn collect<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> Result<ArrayRef, ArrowError> {
                Ok(Arc::new(cells.map(Option::<&Self>::copied).collect::<$array>()))
            }

            fn at(array: &Self::Array, row: usize) -> Self {
                array.value(row)
            }
        }
    )*};
}

number_cell! {
    u16 => UInt16Array, UInt16;
    u32 => UInt32Array, UInt32;
    u64 => UInt64Array, UInt64;
    i32 => Int32Array, Int32;
    i64 => Int64Array, Int64;
    f32 => Float32Array, Float32;
    f64 => Float64Array, Float64;
}

/// Text that repeats from row to row (camera, class) is shared, not copied.
impl Cell for Arc<str> {
    type Array = StringArray;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn collect<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(cells.collect::<StringArray>()))
    }

    fn at(array: &Self::Array, row: usize) -> Self {
        array.value(row).into()
    }
}

impl Cell for Vec<u8> {
    type Array = BinaryArray;

    fn data_type() -> DataType {
        DataType::Binary
    }

    fn collect<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(cells.collect::<BinaryArray>()))
    }

    fn at(array: &Self::Array, row: usize) -> Self {
        array.value(row).to_vec()
    }
}

impl<const N: usize> Cell for [u8; N] {
    type Array = FixedSizeBinaryArray;

    fn data_type() -> DataType {
        DataType::FixedSizeBinary(N as i32)
    }

    fn collect<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(cells, N as i32)?))
    }

    fn at(array: &Self::Array, row: usize) -> Self {
        // The column's type was checked: every value has N bytes.
        array.value(row).try_into().unwrap_or([0; N])
    }
}
