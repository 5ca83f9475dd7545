//! Samples of datasets: what Python has of them, as the library looks at it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple};
use sentry::record::{Field, Value};
use sentry::{
    DatasetField, DatasetSignOptions, DatasetStatement, DatasetVerifyOptions, Dtype, Error, FieldType, FieldValues, IdRule, Looked,
    ReadOptions, Samples, Verified,
};

use crate::errors::{OrRaise, usage};
use crate::memory::TensorBytes;
use crate::results::{Signature, Verification};
use crate::trust::{Signing, Trust};

/// Deepest nesting of a value from Python.
const MAX_DEPTH: usize = 32;

/// A dataset whose signature holds, to check samples with.
#[pyclass(frozen, module = "sentry._native")]
pub struct SampleChecker(Arc<sentry::SampleChecker>);

/// What looking at samples has shown, to go with them until they are delivered.
#[pyclass(frozen, module = "sentry._native")]
pub struct Receipt(sentry::Receipt);

/// Which samples of a dataset were delivered.
#[pyclass(frozen, module = "sentry._native")]
pub struct Epoch {
    checker: Arc<sentry::SampleChecker>,
    epoch: Mutex<sentry::Epoch>,
}

/// A field of all samples, as `sentry._samples` describes it.
#[derive(FromPyObject)]
enum Column<'py> {
    /// An array whose first dimension counts samples.
    Array(Array),
    /// A value of each sample.
    Values(Vec<Bound<'py, PyAny>>),
}

/// `sentry._samples.Array`.
#[derive(FromPyObject)]
struct Array {
    dtype: String,
    /// Of one sample.
    shape: Vec<u64>,
    address: usize,
    nbytes: usize,
}

#[pymethods]
impl SampleChecker {
    #[new]
    fn new(
        py: Python<'_>,
        dataset: PathBuf,
        signatures: Vec<PathBuf>,
        contributors: Vec<(PathBuf, Trust)>,
        trust: Trust,
    ) -> PyResult<Self> {
        let open = || {
            let contributors = read_contributors(&contributors)?;
            sentry::open_samples(&dataset, &signatures, &*trust.verifier(Some(&dataset))?, &contributors)
        };
        py.detach(open).map(|checker| Self(Arc::new(checker))).or_raise(py)
    }

    /// The dataset's name. Nothing was checked against it.
    #[getter]
    fn name(&self) -> &str {
        self.0.statement().value().manifest.name()
    }

    /// The version that the signer stated.
    #[getter]
    fn version(&self) -> Option<u64> {
        self.0.statement().value().manifest.version()
    }

    /// Name and Arrow type of each field.
    #[getter]
    fn fields(&self) -> Vec<(String, String)> {
        let fields = self.0.statement().value().manifest.fields();
        fields.iter().map(|field| (field.name.clone(), field.arrow_type.clone())).collect()
    }

    /// Where ids come from: the name of a column, or ``"path"`` or ``"ordinal"`` with no column.
    #[getter]
    fn ids(&self) -> (&str, Option<&str>) {
        match self.0.statement().value().manifest.ids() {
            IdRule::Column(name) => ("column", Some(name)),
            IdRule::Path => ("path", None),
            IdRule::Ordinal => ("ordinal", None),
        }
    }

    /// Name and number of samples of each source, and whether it has a table.
    #[getter]
    fn sources(&self) -> Vec<(String, u64, bool)> {
        self.0.sources().iter().map(|source| (source.name.clone(), source.state.count(), source.table.is_some())).collect()
    }

    /// What is known of the signature. No sample was checked for it.
    #[getter]
    fn verification(&self) -> Verification {
        Verification::of_statement(self.0.statement())
    }

    /// The ids of all samples of a source; nothing for one without a table.
    fn ids_of(&self, py: Python<'_>, source: &str) -> PyResult<Option<Vec<u64>>> {
        py.detach(|| self.0.ids(self.0.source(source)?)).or_raise(py)
    }

    /// Reads and checks all tables.
    fn check_tables(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.check_tables()).or_raise(py)
    }

    /// Looks at samples of a source. Unless wrong ones are to be kept back, one of them is an error; else their places come back too, and
    /// what is wrong with each.
    fn look(
        &self,
        py: Python<'_>,
        source: &str,
        ids: Vec<u64>,
        fields: Vec<(String, Column<'_>)>,
        keep_back: bool,
    ) -> PyResult<(Receipt, Vec<(usize, String)>)> {
        let mut columns = Vec::with_capacity(fields.len());
        for (name, column) in fields {
            let expected = self.field_type(&name);
            columns.push((name.clone(), OwnedColumn::new(py, &name, column, expected.as_ref())?));
        }
        let look = || {
            let fields = columns.iter().map(|(name, column)| (name.as_str(), column.values())).collect();
            let samples = Samples::new(ids.len(), fields)?;
            sentry::look_at_samples(&self.0, source, &ids, &samples)
        };
        receipt(py, py.detach(look).or_raise(py)?, keep_back)
    }

    /// Looks at samples that are the rows of an Arrow stream; there are ids for them unless those are a column.
    fn look_at_stream(
        &self,
        py: Python<'_>,
        source: &str,
        ids: Option<Vec<u64>>,
        stream: PyBackedBytes,
        keep_back: bool,
    ) -> PyResult<(Receipt, Vec<(usize, String)>)> {
        let looked = py.detach(|| sentry::look_at_stream(&self.0, source, ids.as_deref(), &stream)).or_raise(py)?;
        receipt(py, looked, keep_back)
    }

    /// A receipt of no sample.
    fn receipt(&self) -> Receipt {
        Receipt(sentry::Receipt::empty(&self.0))
    }

    /// An epoch of which nothing was delivered, or the one that was stored.
    #[pyo3(signature = (stored=None))]
    fn epoch(&self, py: Python<'_>, stored: Option<&[u8]>) -> PyResult<Epoch> {
        let epoch = match stored {
            None => sentry::Epoch::new(&self.0),
            Some(stored) => sentry::Epoch::from_bytes(&self.0, stored).or_raise(py)?,
        };
        Ok(Epoch { checker: Arc::clone(&self.0), epoch: Mutex::new(epoch) })
    }
}

/// Reads the signatures of contributors, each with whom to trust for it.
fn read_contributors(contributors: &[(PathBuf, Trust)]) -> Result<Vec<Verified<DatasetStatement>>, Error> {
    contributors.iter().map(|(signature, trust)| sentry::read_contributor(signature, &*trust.verifier(None)?)).collect()
}

impl SampleChecker {
    fn field_type(&self, name: &str) -> Option<FieldType> {
        let fields = self.0.statement().value().manifest.fields();
        fields.iter().find(|field| field.name == name).map(|field| FieldType::parse(&field.arrow_type))
    }
}

fn receipt(py: Python<'_>, looked: Looked, keep_back: bool) -> PyResult<(Receipt, Vec<(usize, String)>)> {
    if !keep_back {
        return Ok((Receipt(looked.all_signed().or_raise(py)?), Vec::new()));
    }
    let wrong = looked.wrong().iter().map(|(sample, difference)| (*sample, difference.to_string())).collect();
    Ok((Receipt(looked.without_wrong()), wrong))
}

#[pymethods]
impl Receipt {
    /// This receipt with the samples of others.
    fn with_others(&self, py: Python<'_>, others: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let mut all = self.0.clone();
        others.iter().try_for_each(|other| all.extend(other.0.clone())).or_raise(py)?;
        Ok(Self(all))
    }

    /// What was found of some of its samples, by their places.
    fn part(&self, py: Python<'_>, start: usize, end: usize) -> PyResult<Self> {
        self.0.part(start..end).map(Self).ok_or_else(|| usage(py, "a receipt has fewer samples"))
    }

    /// How many samples it is about.
    fn __len__(&self) -> usize {
        self.0.count()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let restore = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((restore, (PyBytes::new(py, &self.0.to_bytes()),)))
    }

    /// Reads what another process has written.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, stored: &[u8]) -> PyResult<Self> {
        sentry::Receipt::from_bytes(stored).map(Self).or_raise(py)
    }
}

#[pymethods]
impl Epoch {
    /// Takes down that the samples of a receipt were delivered, or kept back.
    fn deliver(&self, py: Python<'_>, receipt: &Receipt) -> PyResult<()> {
        receipt.0.deliver(&self.checker, &mut self.lock()).or_raise(py)
    }

    /// Adds what another worker or rank delivered, as it stored it.
    fn merge(&self, py: Python<'_>, stored: &[u8]) -> PyResult<()> {
        let other = sentry::Epoch::from_bytes(&self.checker, stored).or_raise(py)?;
        let mut merged = self.lock().clone();
        merged.merge(&self.checker, &other).or_raise(py)?;
        *self.lock() = merged;
        Ok(())
    }

    /// How many samples of each source were delivered.
    fn delivered(&self) -> Vec<u64> {
        self.lock().delivered()
    }

    /// How many samples of each source were kept back and never delivered.
    fn kept_back(&self) -> Vec<u64> {
        self.lock().quarantined()
    }

    /// The verdict on sources: how many samples were signed, how many of them were kept back, and how often one was delivered again.
    fn finish(&self, py: Python<'_>, sources: Vec<String>) -> PyResult<(u64, u64, u64)> {
        let names: Vec<&str> = sources.iter().map(String::as_str).collect();
        let finished = self.lock().finish_of(&self.checker, &names).or_raise(py)?;
        let epoch = finished.value();
        Ok((epoch.samples(), epoch.quarantined(), epoch.repeated()))
    }

    /// All of it, to go on later or elsewhere.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().to_bytes())
    }
}

impl Epoch {
    fn lock(&self) -> std::sync::MutexGuard<'_, sentry::Epoch> {
        self.epoch.lock().expect("no thread panics while it holds this lock")
    }
}

/// Samples that are going to be signed.
#[pyclass(frozen, module = "sentry._native")]
pub struct SampleCollector(Mutex<Option<sentry::SampleCollector>>);

#[pymethods]
impl SampleCollector {
    /// `ids` is `column NAME`, `path` or `ordinal`; by default a column `id`, or the number of the row.
    #[new]
    #[pyo3(signature = (ids=None))]
    fn new(py: Python<'_>, ids: Option<&str>) -> PyResult<Self> {
        let rule = match ids {
            None => None,
            Some("path") => Some(IdRule::Path),
            Some("ordinal") => Some(IdRule::Ordinal),
            Some(text) => match text.strip_prefix("column ") {
                Some(name) => Some(IdRule::Column(name.to_owned())),
                None => return Err(usage(py, format!("ids are \"column NAME\", \"path\" or \"ordinal\", not {text:?}"))),
            },
        };
        Ok(Self(Mutex::new(Some(sentry::SampleCollector::new(rule)))))
    }

    /// Adds samples, whose fields have these names, types and values; their ids are the next numbers, if there are none.
    fn add(
        &self,
        py: Python<'_>,
        source: &str,
        count: usize,
        ids: Option<Vec<u64>>,
        fields: Vec<(String, String, Column<'_>)>,
    ) -> PyResult<()> {
        let (mut columns, mut described) = (Vec::new(), Vec::new());
        for (name, arrow_type, column) in fields {
            columns.push((name.clone(), OwnedColumn::new(py, &name, column, Some(&FieldType::parse(&arrow_type)))?));
            described.push(DatasetField { name, arrow_type });
        }
        described.sort_unstable_by(|one, other| one.name.as_bytes().cmp(other.name.as_bytes()));
        let add = || {
            let fields = columns.iter().map(|(name, column)| (name.as_str(), column.values())).collect();
            self.with(|collector| collector.add(source, &described, ids.as_deref(), &Samples::new(count, fields)?))
        };
        py.detach(add).or_raise(py)
    }

    /// Adds the rows of an Arrow stream.
    fn add_stream(&self, py: Python<'_>, source: &str, source_column: Option<&str>, stream: PyBackedBytes) -> PyResult<()> {
        py.detach(|| self.with(|collector| collector.add_stream(source, source_column, &stream))).or_raise(py)
    }

    /// Signs them, and writes the signature with its tables. Nothing can be added afterwards.
    #[pyo3(signature = (signing, *, signature, name, version, tables, contributors))]
    #[allow(clippy::too_many_arguments, reason = "the options of one call, by name in Python")]
    fn sign(
        &self,
        py: Python<'_>,
        signing: Signing,
        signature: PathBuf,
        name: String,
        version: Option<u64>,
        tables: bool,
        contributors: Vec<(PathBuf, Trust)>,
    ) -> PyResult<Signature> {
        let sign = || {
            let collector = self.0.lock().expect("no thread panics while it holds this lock").take();
            let measured = collector.ok_or(Error::Options { reason: "these samples were signed before" })?.finish()?;
            let contributors = read_contributors(&contributors)?;
            let options = DatasetSignOptions {
                signature: Some(signature.clone()),
                name: Some(name),
                version,
                tables,
                timestamp: signing.timestamp.clone(),
                ..DatasetSignOptions::default()
            };
            let statement = signing.with_signer(|signer| sentry::sign_samples(&measured, signer, &contributors, &options))?;
            Ok::<_, Error>(Signature::of_dataset(&statement, signature.display().to_string(), 0, &[]))
        };
        py.detach(sign).or_raise(py)
    }
}

impl SampleCollector {
    fn with<T>(&self, add: impl FnOnce(&mut sentry::SampleCollector) -> Result<T, Error>) -> Result<T, Error> {
        let mut collector = self.0.lock().expect("no thread panics while it holds this lock");
        add(collector.as_mut().ok_or(Error::Options { reason: "these samples were signed before" })?)
    }
}

/// Signs the samples of a folder or a file.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "the options of one call, by name in Python")]
#[pyo3(signature = (dataset, signing, *, signature, name, version, id, source, tables, contributors))]
pub fn sign_dataset_files(
    py: Python<'_>,
    dataset: PathBuf,
    signing: Signing,
    signature: Option<PathBuf>,
    name: Option<String>,
    version: Option<u64>,
    id: Option<String>,
    source: Option<String>,
    tables: bool,
    contributors: Vec<(PathBuf, Trust)>,
) -> PyResult<Signature> {
    let read = ReadOptions { ids: id.map(IdRule::Column), source_column: source, fields: None };
    let options = DatasetSignOptions { signature, name, version, read, tables, timestamp: signing.timestamp.clone() };
    let sign = || {
        let contributors = read_contributors(&contributors)?;
        let signed = signing.with_signer(|signer| sentry::sign_dataset(&dataset, signer, &contributors, &options, &()))?;
        Ok::<_, Error>(Signature::of_dataset(&signed.statement, signed.signature.display().to_string(), signed.bytes, &signed.others))
    };
    py.detach(sign).or_raise(py)
}

/// Verifies all samples of a folder or a file.
#[pyfunction]
#[pyo3(signature = (dataset, trust, *, signatures, source, contributors))]
pub fn verify_dataset_files(
    py: Python<'_>,
    dataset: PathBuf,
    trust: Trust,
    signatures: Vec<PathBuf>,
    source: Option<String>,
    contributors: Vec<(PathBuf, Trust)>,
) -> PyResult<Verification> {
    let options = DatasetVerifyOptions { signatures, source_column: source };
    let verify = || {
        let contributors = read_contributors(&contributors)?;
        sentry::verify_dataset(&dataset, &*trust.verifier(Some(&dataset))?, &contributors, &options, &())
    };
    py.detach(verify).map(|verified| Verification::of_dataset(&verified)).or_raise(py)
}

/// Path, source and label of each image of a folder.
#[pyfunction]
pub fn list_images(py: Python<'_>, folder: PathBuf) -> PyResult<Vec<(String, String, Option<String>)>> {
    let images = py.detach(|| sentry::list_images(&folder)).or_raise(py)?;
    Ok(images.into_iter().map(|image| (image.path, image.source, image.label)).collect())
}

/// The id of a sample that is known by its path or key.
#[pyfunction]
pub fn path_id(path: &str) -> u64 {
    sentry::path_id(path)
}

/// A field of all samples, independent of the interpreter's lock.
enum OwnedColumn {
    Array { dtype: Dtype, shape: Vec<u64>, bytes: TensorBytes },
    Values(Vec<Plain>),
}

/// A value from Python. Bytes and text stay where Python has them.
enum Plain {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// A number of a type that was signed, or an array.
    Tensor {
        dtype: Dtype,
        shape: Vec<u64>,
        bytes: PyBackedBytes,
    },
    Number {
        dtype: Dtype,
        bytes: Vec<u8>,
    },
    Text(PyBackedStr),
    Bytes(PyBackedBytes),
    Struct(Vec<(String, Plain)>),
    List(Vec<Plain>),
}

impl OwnedColumn {
    fn new(py: Python<'_>, name: &str, column: Column<'_>, expected: Option<&FieldType>) -> PyResult<Self> {
        match column {
            Column::Array(Array { dtype, shape, address, nbytes }) => {
                let Some(dtype) = Dtype::from_name(&dtype) else {
                    return Err(usage(py, format!("field {name:?} has the unknown type {dtype:?}")));
                };
                let fits = match expected {
                    Some(FieldType::Number(signed)) => shape.is_empty() && *signed == dtype,
                    Some(FieldType::Tensor(signed, dimensions)) => *dimensions == shape && *signed == dtype,
                    Some(FieldType::Any) | None => true,
                    Some(_) => false,
                };
                if !fits {
                    let found = format!("{} of shape {shape:?}", dtype.name());
                    return Err(usage(py, format!("field {name:?} is {found} for each sample here, and was signed as {}", text(expected))));
                }
                Ok(Self::Array { dtype, shape, bytes: TensorBytes::new(None, address, nbytes)? })
            }
            Column::Values(values) => {
                let convert = |(sample, value): (usize, &Bound<'_, PyAny>)| {
                    let place = || format!("field {name:?} of sample {sample} of the batch");
                    plain(value, expected.unwrap_or(&FieldType::Any), 1, &place)
                };
                values.iter().enumerate().map(convert).collect::<PyResult<_>>().map(Self::Values)
            }
        }
    }

    fn values(&self) -> FieldValues<'_> {
        match self {
            Self::Array { dtype, shape, bytes } => FieldValues::Tensors { dtype: *dtype, shape, bytes: bytes.as_bytes() },
            Self::Values(values) => FieldValues::Values(values.iter().map(Plain::value).collect()),
        }
    }
}

impl Plain {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Float(float) => Value::Float(*float),
            Self::Tensor { dtype, shape, bytes } => Value::Tensor { dtype: *dtype, shape, bytes },
            Self::Number { dtype, bytes } => Value::Tensor { dtype: *dtype, shape: &[], bytes },
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Struct(fields) => Value::Struct(fields.iter().map(|(name, value)| Field { name, value: value.value() }).collect()),
            Self::List(values) => Value::List(values.iter().map(Self::value).collect()),
        }
    }
}

fn text(expected: Option<&FieldType>) -> String {
    match expected {
        Some(FieldType::Number(dtype)) => dtype.name().to_owned(),
        Some(FieldType::Tensor(dtype, shape)) => format!("{} of shape {shape:?}", dtype.name()),
        Some(FieldType::Text) => "text".to_owned(),
        Some(FieldType::Bytes) => "bytes".to_owned(),
        Some(FieldType::List(_)) => "a list".to_owned(),
        Some(FieldType::Struct(_)) => "a mapping".to_owned(),
        Some(FieldType::Any) | None => "something else".to_owned(),
    }
}

/// Converts a value, by the type that was signed where that says more than Python's own.
fn plain(value: &Bound<'_, PyAny>, expected: &FieldType, depth: usize, place: &dyn Fn() -> String) -> PyResult<Plain> {
    let py = value.py();
    if depth > MAX_DEPTH {
        return Err(PyRecursionError::new_err(format!("{}: values are nested deeper than {MAX_DEPTH} levels", place())));
    }
    let unfit = || usage(py, format!("{}: {} is no {}", place(), value.get_type(), text(Some(expected))));
    if value.is_none() {
        return Ok(Plain::Null);
    }
    if let Ok(truth) = value.cast::<PyBool>() {
        return match expected {
            FieldType::Number(dtype) if dtype.name() == "BOOL" => Ok(Plain::Bool(truth.is_true())),
            FieldType::Any => Ok(Plain::Bool(truth.is_true())),
            _ => Err(unfit()),
        };
    }
    // numpy's numbers of 64 bits are floats of Python's too, and have a type of their own.
    if value.is_instance_of::<PyInt>() || value.is_exact_instance_of::<PyFloat>() {
        return match expected {
            FieldType::Number(dtype) => {
                number(value, *dtype).ok_or_else(|| usage(py, format!("{}: {} is no value of {}", place(), value, dtype.name())))
            }
            FieldType::Any if value.is_instance_of::<PyInt>() => value.extract().map(Plain::Integer).map_err(|_| unfit()),
            FieldType::Any => Ok(Plain::Float(value.extract()?)),
            _ => Err(unfit()),
        };
    }
    if value.is_instance_of::<PyString>() {
        return match expected {
            FieldType::Text | FieldType::Any => value.extract().map(Plain::Text),
            _ => Err(unfit()),
        };
    }
    if let Ok(view) = value.cast::<PyMemoryView>() {
        return plain(&view.call_method0("tobytes")?, expected, depth, place);
    }
    if value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>() {
        return match expected {
            FieldType::Bytes | FieldType::Any => value.extract().map(Plain::Bytes).map_err(Into::into),
            _ => Err(unfit()),
        };
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let inner = match expected {
            FieldType::List(inner) => inner,
            FieldType::Any => &FieldType::Any,
            _ => return Err(unfit()),
        };
        let values = value.try_iter()?.map(|item| plain(&item?, inner, depth + 1, place));
        return values.collect::<PyResult<_>>().map(Plain::List);
    }
    if let Ok(fields) = value.cast::<PyDict>() {
        return structure(fields, expected, depth, place).and_then(|found| found.ok_or_else(unfit));
    }
    let described = PyModule::import(py, "sentry._samples")?.getattr("described")?.call1((value,))?;
    let (name, shape, bytes): (String, Vec<u64>, PyBackedBytes) = described.extract()?;
    let unlike = || usage(py, format!("{}: {name} of shape {shape:?} was signed as {}", place(), text(Some(expected))));
    let dtype = Dtype::from_name(&name).ok_or_else(unlike)?;
    let lists = shape.iter().try_fold(1_u64, |lists, &length| lists.checked_mul(length.max(1)));
    if bytes.is_empty() && lists.is_none_or(|lists| lists > MOST_EMPTY) {
        return Err(unlike());
    }
    match expected {
        FieldType::Tensor(signed, dimensions) if *dimensions == shape && *signed == dtype => Ok(Plain::Tensor { dtype, shape, bytes }),
        FieldType::Any => Ok(Plain::Tensor { dtype, shape, bytes }),
        _ => numbers(dtype, &shape, &bytes, expected).ok_or_else(unlike),
    }
}

/// Lists without a value that an array stands for, at most: their number costs an array nothing.
const MOST_EMPTY: u64 = 1 << 20;

/// An array as the number, or the list of numbers, that was signed. Nothing for one of another type.
fn numbers(dtype: Dtype, shape: &[u64], bytes: &[u8], expected: &FieldType) -> Option<Plain> {
    match (expected, shape.split_first()) {
        (FieldType::Number(signed), None) if *signed == dtype => match (dtype.name(), bytes) {
            ("BOOL", [0]) => Some(Plain::Bool(false)),
            ("BOOL", [1]) => Some(Plain::Bool(true)),
            ("BOOL", _) => None,
            _ => Some(Plain::Number { dtype, bytes: bytes.to_vec() }),
        },
        (FieldType::List(inner), Some((&count, shape))) => {
            let size = dtype.size_of(shape)?;
            if size.checked_mul(count) != Some(bytes.len() as u64) {
                return None;
            }
            let item = |place: u64| numbers(dtype, shape, &bytes[(place * size) as usize..((place + 1) * size) as usize], inner);
            (0..count).map(item).collect::<Option<_>>().map(Plain::List)
        }
        _ => None,
    }
}

/// The fields of a mapping; those that it lacks have no value. Nothing for one that was not signed as a mapping, or has other fields.
fn structure(fields: &Bound<'_, PyDict>, expected: &FieldType, depth: usize, place: &dyn Fn() -> String) -> PyResult<Option<Plain>> {
    let signed = match expected {
        FieldType::Struct(signed) => Some(signed),
        FieldType::Any => None,
        _ => return Ok(None),
    };
    let mut found = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let name: String = name.extract()?;
        let inner = match signed {
            None => &FieldType::Any,
            Some(signed) => match signed.iter().find(|(known, _)| *known == name) {
                Some((_, inner)) => inner,
                None => return Ok(None),
            },
        };
        let value = plain(&value, inner, depth + 1, place)?;
        found.push((name, value));
    }
    for (name, _) in signed.into_iter().flatten() {
        if !found.iter().any(|(known, _)| known == name) {
            found.push((name.clone(), Plain::Null));
        }
    }
    Ok(Some(Plain::Struct(found)))
}

/// A number of Python's as one of the signed type, if it is one exactly.
fn number(value: &Bound<'_, PyAny>, dtype: Dtype) -> Option<Plain> {
    let bytes = match dtype.name() {
        "U8" => value.extract::<u8>().ok()?.to_le_bytes().to_vec(),
        "U16" => value.extract::<u16>().ok()?.to_le_bytes().to_vec(),
        "U32" => value.extract::<u32>().ok()?.to_le_bytes().to_vec(),
        "U64" => value.extract::<u64>().ok()?.to_le_bytes().to_vec(),
        "I8" => value.extract::<i8>().ok()?.to_le_bytes().to_vec(),
        "I16" => value.extract::<i16>().ok()?.to_le_bytes().to_vec(),
        "I32" => value.extract::<i32>().ok()?.to_le_bytes().to_vec(),
        "I64" => value.extract::<i64>().ok()?.to_le_bytes().to_vec(),
        "F64" => exact_float(value)?.to_le_bytes().to_vec(),
        "F32" => {
            let float = exact_float(value)?;
            let single = float as f32;
            (f64::from(single) == float || float.is_nan()).then(|| single.to_le_bytes().to_vec())?
        }
        _ => return None,
    };
    Some(Plain::Number { dtype, bytes })
}

/// A float, or a whole number that is one exactly.
fn exact_float(value: &Bound<'_, PyAny>) -> Option<f64> {
    let float: f64 = value.extract().ok()?;
    (value.is_instance_of::<PyFloat>() || value.eq(float).ok()?).then_some(float)
}
