//! What makes a struct a row of a table, and the macro that writes it.

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field};
use parquet::basic::Encoding;

use crate::{cell::Cell, error::TableError};

/// One column as a table declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: &'static str,
    /// Unit of the values, empty where there is none.
    pub unit: &'static str,
    pub data_type: DataType,
    pub nullable: bool,
}

/// A row of a table. Written by the `table!` macro.
pub trait Row: Sized {
    /// Name of the table, for messages and metadata.
    const TABLE: &'static str;

    fn columns() -> Vec<Column>;

    /// One array a column, in the order of [`Row::columns`].
    ///
    /// # Errors
    /// When a column of these rows does not fit an array.
    fn arrays(rows: &[Self]) -> Result<Vec<ArrayRef>, ArrowError>;

    /// # Errors
    /// When a column is missing, has another type, or has nulls that it must not have.
    fn rows(batch: &RecordBatch) -> Result<Vec<Self>, TableError>;
}

impl Column {
    pub(crate) fn of<C: Cell>(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, data_type: C::data_type(), nullable: C::NULLABLE }
    }

    pub(crate) fn field(&self) -> Field {
        let field = Field::new(self.name, self.data_type.clone(), self.nullable);
        match self.unit {
            "" => field,
            unit => field.with_metadata([("unit", unit)]),
        }
    }

    /// Text repeats and goes to a dictionary. Frame numbers and times ascend, so their differences are small. All else
    /// is plain, for zstd: cleverer encodings of floats are not yet read by every Spark.
    pub(crate) fn encoding(&self) -> Option<Encoding> {
        match self.data_type {
            DataType::Utf8 => None,
            DataType::Int32 | DataType::Int64 | DataType::UInt32 => Some(Encoding::DELTA_BINARY_PACKED),
            _ => Some(Encoding::PLAIN),
        }
    }

    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self.data_type, DataType::Binary | DataType::FixedSizeBinary(_))
    }
}

/// The typed array of a column, checked.
pub(crate) fn typed<'a, C: Cell>(
    batch: &'a RecordBatch,
    table: &'static str,
    column: &'static str,
) -> Result<&'a C::Array, TableError> {
    let array = batch.column_by_name(column).ok_or(TableError::NoColumn { table, column })?;
    if *array.data_type() != C::data_type() {
        let found = array.data_type().clone();
        return Err(TableError::ColumnType { table, column, expected: C::data_type(), found });
    }
    if !C::NULLABLE && array.null_count() > 0 {
        return Err(TableError::Null { table, column });
    }
    array.as_any().downcast_ref().ok_or_else(|| TableError::ColumnType {
        table,
        column,
        expected: C::data_type(),
        found: array.data_type().clone(),
    })
}

/// Declares a row struct and its table: `field: Type, "unit";` with an empty unit where there is none.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident in $table:literal {
        $($(#[$doc:meta])* $field:ident: $type:ty, $unit:literal;)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $crate::row::Row for $name {
            const TABLE: &'static str = $table;

            fn columns() -> Vec<$crate::row::Column> {
                vec![$($crate::row::Column::of::<$type>(stringify!($field), $unit)),*]
            }

            fn arrays(rows: &[Self]) -> Result<Vec<arrow_array::ArrayRef>, arrow_schema::ArrowError> {
                Ok(vec![$(<$type as $crate::cell::Cell>::collect(rows.iter().map(|row| Some(&row.$field)))?),*])
            }

            fn rows(batch: &arrow_array::RecordBatch) -> Result<Vec<Self>, $crate::TableError> {
                $(let $field = $crate::row::typed::<$type>(batch, Self::TABLE, stringify!($field))?;)*
                Ok((0..batch.num_rows())
                    .map(|row| Self { $($field: <$type as $crate::cell::Cell>::at($field, row)),* })
                    .collect())
            }
        }
    };
}

pub(crate) use table;
