//! The native client, in one process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use oss_client::{
    Client, Request,
    catalogue::{Entry, PageFile},
    credentials::{CredentialProvider, StaticCredentials},
    error::too_large,
    ops::{list::ListOptions, multipart::Part, put::PutOptions},
    order,
    paginate::Pages,
    prefetch::{DeliveryOrder, Sequence},
    reader::ObjectReader,
    upload::{CopyOptions, Upload},
};
use oss_protocol::header as oss_header;
use pyo3::{
    buffer::PyUntypedBuffer,
    prelude::*,
    types::{PyBytes, PyList},
};

use crate::{
    buffer::{Loan, bytes_of},
    config::{ProxySettings, Settings, resolve},
    credentials::PythonProvider,
    data_object::{PyDataObject, unquoted},
    error,
    listing_file::PyListingFile,
    listing_task::ListingTask,
    object_listing::PyObjectListing,
    object_pages::{PageSource, PyObjectPages},
    object_stream::PyObjectStream,
    object_table::{PyObjectTable, row_of},
    order::PyOrder,
    oss_reader::PyOssReader,
    prefix_to_list::PyPrefixToList,
    range_fetcher::{Limits, PyRangeFetcher},
    reactor_client::ReactorClient,
    runtime,
    wait::{block_on, block_on_watched},
    writer::{PyWriter, lanes},
};

/// Names and values: headers, or parameters of a query.
type NamedValues = Vec<(String, String)>;

/// The ETag, the length and the CRC-64 of a part that has arrived.
type ArrivedPart = (String, u64, Option<u64>);

/// One core client for each reactor, for one endpoint.
#[pyclass(frozen, name = "Client", module = "osstorchconnector._native")]
pub(crate) struct PyClient {
    reactor_clients: Vec<Arc<ReactorClient>>,
}

impl PyClient {
    /// The next client in turn: streams and readers are spread over the reactors.
    fn reactor_client(&self) -> &Arc<ReactorClient> {
        &self.reactor_clients[runtime::turn() % self.reactor_clients.len()]
    }

    /// Lists if no other process does, until the returned task is dropped.
    pub(crate) fn list_into(
        &self,
        py: Python<'_>,
        listing: &PyListingFile,
        file: Arc<PageFile>,
        prefix: &PyPrefixToList,
    ) -> PyResult<ListingTask> {
        let (client, reactor) = self.reactor_client().get(py)?;
        let prefix = Some((listing.shared(), prefix.with(client.clone())));
        let sequence = Sequence::file(file, order::Order::default(), prefix);
        Ok(ListingTask::start(reactor, sequence))
    }

    fn pages(
        &self,
        py: Python<'_>,
        bucket: &str,
        prefix: &str,
        delimiter: &str,
        start_after: Option<String>,
        max_keys: Option<u16>,
    ) -> PyResult<(Arc<ReactorClient>, Pages)> {
        let reactor_client = self.reactor_client();
        let (client, _) = reactor_client.get(py)?;
        let delimiter = (!delimiter.is_empty()).then(|| delimiter.to_owned());
        let prefix = prefix.to_owned();
        let options = ListOptions { prefix, delimiter, start_after, max_keys };
        Ok((Arc::clone(reactor_client), Pages::new(client, bucket, options)))
    }

    /// Runs an operation on the first I/O thread and waits for it.
    fn run<T: Send + 'static, F>(&self, py: Python<'_>, operation: impl FnOnce(Client) -> F) -> PyResult<T>
    where
        F: Future<Output = oss_client::Result<T>> + Send + 'static,
    {
        let (client, reactor) = self.reactor_clients[0].get(py)?;
        block_on(py, reactor, operation(client))
    }
}

#[pymethods]
impl PyClient {
    #[new]
    #[pyo3(signature = (*, endpoint, region, config, credentials, io_threads, shared, proxy = None))]
    #[expect(clippy::too_many_arguments, reason = "the parts of a client, by name")]
    fn new(
        py: Python<'_>,
        endpoint: &str,
        region: &str,
        config: Settings,
        credentials: Option<Py<PyAny>>,
        io_threads: usize,
        shared: &[u8],
        proxy: Option<ProxySettings>,
    ) -> PyResult<Self> {
        let mut config = resolve(py, endpoint, region, config)?;
        config.proxy = proxy.map(Into::into);
        let provider: Arc<dyn CredentialProvider> = match credentials {
            Some(callable) => Arc::new(PythonProvider { callable }),
            None => Arc::new(StaticCredentials(None)),
        };
        let clients = runtime::clients(py, io_threads, shared, &config, &provider)?.into_iter();
        let reactor_clients = clients.map(|(client, reactor)| Arc::new(ReactorClient::new(client, reactor))).collect();
        Ok(Self { reactor_clients })
    }

    #[getter]
    fn local(&self, py: Python<'_>) -> PyResult<bool> {
        let (client, _) = self.reactor_clients[0].get(py)?;
        Ok(client.is_local())
    }

    fn head(&self, py: Python<'_>, bucket: String, key: String) -> PyResult<PyDataObject> {
        let entry = Entry::named(bucket.as_str(), key.as_str());
        let meta = self.run(py, |client| async move { client.head(&bucket, &key).await })?;
        PyDataObject::opened(py, entry, self.reactor_client(), meta)
    }

    #[pyo3(signature = (bucket, key, *, label = ""))]
    fn open(&self, py: Python<'_>, bucket: String, key: String, label: &str) -> PyResult<PyDataObject> {
        Ok(self.head(py, bucket, key)?.labelled(label))
    }

    /// An object that is known by name; its bytes are fetched when it is read.
    fn describe(&self, bucket: &str, key: &str, size: Option<u64>, label: &str) -> PyDataObject {
        let entry = Entry { size, ..Entry::named(bucket, key) };
        PyDataObject::described(entry, Some(Arc::clone(self.reactor_client()))).labelled(label)
    }

    fn reader(&self, py: Python<'_>, bucket: String, key: String) -> PyResult<PyOssReader> {
        let (head_bucket, head_key) = (bucket.clone(), key.clone());
        let meta = self.run(py, |client| async move { client.head(&head_bucket, &head_key).await })?;
        PyOssReader::new(py, &self.reactor_clients, &bucket, &key, meta)
    }

    #[pyo3(signature = (bucket, key, start = None, end = None, *, limit = None, conditions = Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "what to read of which object, by name")]
    fn get<'py>(
        &self,
        py: Python<'py>,
        bucket: String,
        key: String,
        start: Option<u64>,
        end: Option<u64>,
        limit: Option<u64>,
        conditions: NamedValues,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = if start.is_none() && end.is_none() && conditions.is_empty() {
            self.run(py, |client| async move {
                let fetched = client.get(&bucket, &key, limit.unwrap_or(u64::MAX)).await?;
                fetched.bytes.ok_or_else(|| too_large(fetched.meta.size).on(Some(&bucket), Some(&key)))
            })?
        } else {
            let conditions = header_map(py, conditions)?;
            self.run(py, |client| async move {
                // All bytes are of the version that met the conditions.
                let meta = client.head_if(&bucket, &key, conditions).await?;
                let reader = ObjectReader::with_meta(client.clone(), &bucket, &key, meta);
                let start = start.unwrap_or(0);
                let end = end.unwrap_or(u64::MAX).min(reader.meta().size);
                let length = end.saturating_sub(start);
                let bytes = usize::try_from(length).ok().and_then(|length| client.buffers().take(length));
                let mut bytes = bytes.ok_or_else(|| too_large(length).on(Some(&bucket), Some(&key)))?;
                reader.read_at(start, &mut bytes).await?;
                Ok(bytes)
            })?
        };
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (bucket, key, data, *, headers = Vec::new()))]
    fn put(
        &self,
        py: Python<'_>,
        bucket: String,
        key: String,
        data: &Bound<'_, PyAny>,
        headers: NamedValues,
    ) -> PyResult<String> {
        let buffer = PyUntypedBuffer::get(data)?;
        let options = put_options(py, headers)?;
        let lanes = lanes(py, &self.reactor_clients)?;
        // If this fails, the upload is aborted, and its copies of the loan are dropped.
        let loan = Loan::new(py, bytes_of(&buffer)?);
        let bytes = loan.bytes().clone();
        let published = self.run(py, |client| async move {
            let size = bytes.len() as u64;
            let mut upload = Upload::new(lanes, &client, &bucket, &key, options, Some(size))?;
            match upload.publish(bytes).await {
                Ok(published) => Ok(published),
                Err(error) => Err(upload.give_up(error).await),
            }
        })?;
        drop(loan);
        Ok(unquoted(&published.etag))
    }

    fn delete(&self, py: Python<'_>, bucket: String, key: String) -> PyResult<()> {
        self.run(py, |client| async move { client.delete(&bucket, &key).await })
    }

    fn delete_many(&self, py: Python<'_>, bucket: String, keys: Vec<String>) -> PyResult<()> {
        self.run(py, |client| async move { client.delete_many(&bucket, &keys).await })
    }

    #[pyo3(signature = (source, target, *, largest, size = None, progress = None, headers = Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "by name")]
    fn copy(
        &self,
        py: Python<'_>,
        source: (String, String),
        target: (String, String),
        largest: u64,
        size: Option<u64>,
        progress: Option<&Bound<'_, PyAny>>,
        headers: NamedValues,
    ) -> PyResult<()> {
        let put = put_options(py, headers)?;
        let (client, reactor) = self.reactor_clients[0].get(py)?;
        let copied = Arc::new(AtomicU64::new(0));
        let options = CopyOptions { largest, size, copied: Arc::clone(&copied), put };
        let copy = async move { client.copy(&source.0, &source.1, &target.0, &target.1, options).await };
        let report = || match (progress, copied.swap(0, Ordering::Relaxed)) {
            (Some(progress), count) => progress.call1((count,)).map(drop),
            (None, _) => Ok(()),
        };
        block_on_watched(py, reactor, copy, report)?;
        report()
    }

    fn create_bucket(&self, py: Python<'_>, bucket: String) -> PyResult<()> {
        self.run(py, |client| async move { client.create_bucket(&bucket).await })
    }

    fn delete_bucket(&self, py: Python<'_>, bucket: String) -> PyResult<()> {
        self.run(py, |client| async move { client.delete_bucket(&bucket).await })
    }

    fn list_buckets(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.run(py, |client| async move { client.list_buckets().await })
    }

    #[pyo3(signature = (bucket, prefix, *, delimiter = ""))]
    fn list(&self, py: Python<'_>, bucket: &str, prefix: &str, delimiter: &str) -> PyResult<PyObjectListing> {
        let (reactor_client, pages) = self.pages(py, bucket, prefix, delimiter, None, None)?;
        Ok(PyObjectListing::new(reactor_client, bucket, pages))
    }

    #[pyo3(signature = (
        bucket, prefix, *, delimiter = "", parallel = false, start_after = None, page_size = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the options of a listing, by name")]
    fn list_pages(
        &self,
        py: Python<'_>,
        bucket: &str,
        prefix: &str,
        delimiter: &str,
        parallel: bool,
        start_after: Option<String>,
        page_size: Option<u16>,
    ) -> PyResult<PyObjectPages> {
        if parallel && delimiter.is_empty() {
            return PyObjectPages::at_once(py, self.reactor_client(), bucket, prefix, start_after);
        }
        let (reactor_client, pages) = self.pages(py, bucket, prefix, delimiter, start_after, page_size)?;
        Ok(PyObjectPages::in_turn(PageSource::new(reactor_client, pages)))
    }

    #[pyo3(signature = (rows, order, *, arrival = false, prefix = None))]
    fn stream(
        &self,
        py: Python<'_>,
        rows: GivenRows<'_>,
        order: &Bound<'_, PyOrder>,
        arrival: bool,
        prefix: Option<&Bound<'_, PyPrefixToList>>,
    ) -> PyResult<PyObjectStream> {
        let reactor_client = self.reactor_client();
        let (client, _) = reactor_client.get(py)?;
        let formula = order.get().formula();
        let delivery = if arrival { DeliveryOrder::Arrival } else { DeliveryOrder::Ordered };
        let (sequence, kept) = match rows {
            GivenRows::Table(table) => (table.get().sequence(formula), None),
            GivenRows::File(listing) => {
                let listed = prefix.map(|prefix| (listing.get().shared(), prefix.get().with(client.clone())));
                let file = listing.get().open(py)?;
                (Sequence::file(file, formula, listed), Some(listing.into_any().unbind()))
            }
        };
        PyObjectStream::start(py, reactor_client, sequence, delivery, 1, kept)
    }

    fn fetch<'py>(&self, py: Python<'py>, rows: GivenRows<'py>, indices: Vec<isize>) -> PyResult<Bound<'py, PyList>> {
        let stream = self.stream_at(py, rows, indices, false)?;
        let objects = PyList::empty(py);
        while let Some(object) = stream.next(py)? {
            objects.append(Bound::new(py, object)?)?;
        }
        Ok(objects)
    }

    #[pyo3(signature = (rows, indices, *, ahead = false))]
    fn stream_at(
        &self,
        py: Python<'_>,
        rows: GivenRows<'_>,
        indices: Vec<isize>,
        ahead: bool,
    ) -> PyResult<PyObjectStream> {
        let picks = |count: u64| indices.iter().map(|index| row_of(*index, count)).collect::<PyResult<Vec<_>>>();
        let sequence = match rows {
            GivenRows::Table(table) => {
                let table = table.get();
                table.picked(picks(table.count())?)
            }
            GivenRows::File(listing) => {
                let (file, count) = listing.get().some(py)?;
                Sequence::picked_from_file(file, picks(count)?)
            }
        };
        let share = if ahead { 2 } else { 1 };
        PyObjectStream::start(py, self.reactor_client(), sequence, DeliveryOrder::Ordered, share, None)
    }

    #[pyo3(signature = (ranges, *, allocate, gap, run_limit, concurrency, budget))]
    #[expect(clippy::too_many_arguments, reason = "the limits, by name")]
    fn range_fetcher(
        &self,
        py: Python<'_>,
        ranges: &Bound<'_, PyAny>,
        allocate: Py<PyAny>,
        gap: u64,
        run_limit: u64,
        concurrency: usize,
        budget: u64,
    ) -> PyResult<PyRangeFetcher> {
        let limits = Limits { gap, run_limit, concurrency, budget };
        PyRangeFetcher::new(py, &self.reactor_clients, ranges, allocate, limits)
    }

    #[pyo3(signature = (bucket, key, size_hint = None, *, deferred = false, headers = Vec::new(), after = None))]
    #[expect(clippy::too_many_arguments, reason = "what to write and how, by name")]
    fn writer(
        &self,
        py: Python<'_>,
        bucket: &str,
        key: &str,
        size_hint: Option<u64>,
        deferred: bool,
        headers: NamedValues,
        after: Option<(String, Vec<ArrivedPart>)>,
    ) -> PyResult<PyWriter> {
        let turn = runtime::turn();
        let options = put_options(py, headers)?;
        let after = after.map(|(upload_id, parts)| {
            let numbered = (1..).zip(parts);
            let parts = numbered.map(|(number, (etag, length, crc64))| Part { number, etag, length, crc64 });
            (upload_id, parts.collect())
        });
        PyWriter::new(py, &self.reactor_clients, turn, (bucket, key), size_hint, deferred, options, after)
    }

    #[pyo3(signature = (method, bucket, key, *, query = Vec::new(), headers = Vec::new(), body = Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "the parts of a request, by name")]
    fn request<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        bucket: String,
        key: Option<&str>,
        query: NamedValues,
        headers: NamedValues,
        body: Vec<u8>,
    ) -> PyResult<(NamedValues, Bound<'py, PyBytes>)> {
        let mut request = Request::bucket(parse_method(py, method)?, &bucket).with_body(body);
        request.key = key.map(str::to_owned);
        request.query = query;
        request.headers = header_map(py, headers)?;
        let (headers, body) = self.run(py, |client| async move {
            let response = client.send(&request).await?;
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let headers = response.headers.iter().map(|(name, value)| (text(name), text(value))).collect();
            Ok((headers, response.body.collect(ANSWER_LIMIT).await?))
        })?;
        Ok((headers, PyBytes::new(py, &body)))
    }

    fn tags(&self, py: Python<'_>, bucket: String, key: String) -> PyResult<String> {
        self.run(py, |client| async move { client.tagging(&bucket, &key).await })
    }

    fn presign(
        &self,
        py: Python<'_>,
        method: &str,
        bucket: String,
        key: String,
        seconds: u64,
        headers: NamedValues,
    ) -> PyResult<String> {
        let method = parse_method(py, method)?;
        let headers = header_map(py, headers)?;
        self.run(py, |client| async move {
            client.presign(&method, &bucket, &key, Duration::from_secs(seconds), &headers).await
        })
    }

    fn list_uploads(&self, py: Python<'_>, bucket: String, prefix: String) -> PyResult<Vec<(String, String, f64)>> {
        let uploads = self.run(py, |client| async move { client.list_multipart_uploads(&bucket, &prefix).await })?;
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Ok(uploads.into_iter().map(|upload| (upload.key, upload.upload_id, seconds(upload.initiated))).collect())
    }

    fn list_parts(
        &self,
        py: Python<'_>,
        bucket: String,
        key: String,
        upload_id: String,
    ) -> PyResult<Vec<(u32, ArrivedPart)>> {
        let parts = self.run(py, |client| async move { client.list_parts(&bucket, &key, &upload_id).await })?;
        Ok(parts.into_iter().map(|part| (part.number, (part.etag, part.length, part.crc64))).collect())
    }

    fn abort_upload(&self, py: Python<'_>, bucket: String, key: String, upload_id: String) -> PyResult<()> {
        self.run(py, |client| async move { client.abort_multipart(&bucket, &key, &upload_id).await })
    }
}

/// The rows that Python gives a stream.
#[derive(FromPyObject)]
enum GivenRows<'py> {
    Table(Bound<'py, PyObjectTable>),
    File(Bound<'py, PyListingFile>),
}
/// Most bytes of an answer that is not an object's content.
const ANSWER_LIMIT: usize = 4 << 20;

fn parse_method(py: Python<'_>, method: &str) -> PyResult<Method> {
    Method::from_bytes(method.as_bytes()).map_err(|_| error::config(py, format!("{method:?} is no HTTP method")))
}

/// Headers that Python has checked.
pub(crate) fn header_map(py: Python<'_>, headers: NamedValues) -> PyResult<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let invalid = || error::config(py, format!("header {name:?} cannot be sent"));
        let value = HeaderValue::from_str(&value).map_err(|_| invalid())?;
        map.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?, value);
    }
    Ok(map)
}

fn put_options(py: Python<'_>, headers: NamedValues) -> PyResult<PutOptions> {
    let mut headers = header_map(py, headers)?;
    let forbid_overwrite = headers.remove(oss_header::FORBID_OVERWRITE).is_some();
    Ok(PutOptions { headers, forbid_overwrite })
}
