//! The array of a workload, opened by zarrs: what every decoding engine needs to know of it.

use std::num::NonZeroU64;
use std::sync::Arc;

use object_store::prefix::PrefixStore;
use tokio::runtime::Handle;
use zarrs::array::{Array, ArrayError, ArraySubset, DataType, FillValue};
use zarrs_object_store::AsyncObjectStore;
use zarrs_storage::storage_adapter::async_to_sync::{AsyncToSyncBlockOn, AsyncToSyncStorageAdapter};

use crate::client::Client;
use crate::failure::{Failure, Outcome, one_line};
use crate::selection::{Axis, Piece};
use crate::workload::Workload;
use crate::zarrs_api::inner_chunk_shape;

pub type Store = AsyncObjectStore<PrefixStore<Arc<dyn object_store::ObjectStore>>>;
pub type OpenArray = Array<Store>;

/// The same for zarrs' synchronous API: a thread that asks for bytes waits until they are there.
pub type BlockingStore = AsyncToSyncStorageAdapter<Store, OnRuntime>;
pub type BlockingArray = Array<BlockingStore>;

/// The runtime that sends requests, for threads that are not its own.
pub struct OnRuntime(Handle);

impl AsyncToSyncBlockOn for OnRuntime {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }
}

/// More than any array's metadata have.
const MOST_METADATA_BYTES: u64 = 16 << 20;

/// Opens the array as zarrs' documentation tells: its metadata is read now, nothing else.
///
/// # Errors
/// `Store` when it cannot be read, `Unsupported` for elements without a fixed size, `BadUse` when the array there is
/// not the one that the workload was made for: its numbers decide what memory is asked for.
pub async fn open(workload: &Workload, client: &Client) -> Outcome<Arc<OpenArray>> {
    let key = client.path(workload.array.metadata_key());
    let head = object_store::ObjectStoreExt::head(&client.store, &key).await;
    let size = head.map_err(|error| Failure::Store(format!("{}: {}", workload.target.url, one_line(&error))))?.size;
    if size > MOST_METADATA_BYTES {
        return Err(Failure::unsupported(format!("{key} has {size} bytes, more than {MOST_METADATA_BYTES}")));
    }
    let rooted = PrefixStore::new(Arc::clone(&client.store), client.prefix.clone());
    let array = Array::async_open(Arc::new(AsyncObjectStore::new(rooted)), "/")
        .await
        .map_err(|error| Failure::unsupported(one_line(&error)))?;
    let element = element_size(array.data_type())?;
    let asked = &workload.array;
    let shard = array.chunk_shape(&vec![0; array.dimensionality()]).map_err(Failure::unsupported)?;
    // Codecs around the sharding codec hide the inner chunks: then an object is taken for one chunk.
    let inner = inner_chunk_shape(&array).filter(|_| asked.is_sharded());
    let chunk = inner.unwrap_or_else(|| shard.clone());
    let sizes = |shape: &[NonZeroU64]| shape.iter().map(|size| size.get()).collect::<Vec<_>>();
    for (what, there, wanted) in [
        ("shape", array.shape().to_vec(), &asked.shape),
        ("shards", sizes(&shard), &asked.shard_shape),
        ("chunks", sizes(&chunk), &asked.chunk_shape),
    ] {
        if there != *wanted {
            let at = &client.prefix;
            return Err(Failure::bad_use(format!(
                "the array at {at} has {what} {there:?}, the workload's has {wanted:?}"
            )));
        }
    }
    workload.check_element(element)?;
    Ok(Arc::new(array))
}

/// An open array for the synchronous API, whose requests are sent by the runtime that this is called in.
pub fn blocking(array: &OpenArray) -> BlockingArray {
    array.with_storage(Arc::new(AsyncToSyncStorageAdapter::new(array.storage(), OnRuntime(Handle::current()))))
}

/// Bytes of an element.
pub fn element_size(data_type: &DataType) -> Outcome<usize> {
    data_type.fixed_size().ok_or_else(|| Failure::unsupported(format!("elements of {data_type:?} have no fixed size")))
}

/// Bytes of an element that is not stored.
pub fn fill_bytes(fill: &FillValue, element: usize) -> Outcome<Vec<u8>> {
    let bytes = fill.as_ne_bytes();
    if bytes.len() == element {
        return Ok(bytes.to_vec());
    }
    Err(Failure::unsupported(format!("a fill value of {} bytes for elements of {element}", bytes.len())))
}

/// Whether a selection is a box: only then can one call of zarrs yield it.
pub fn is_box(read: &[Axis]) -> bool {
    read.iter().all(|axis| axis.step == 1 || axis.len() == 1)
}

/// The box around a piece, which is what zarrs can be asked for, and the piece in that box's coordinates.
///
/// `place` turns an axis and an element's coordinate in the array into the coordinates of whoever is asked.
pub fn boxed(piece: &Piece, chunk_shape: &[u64], place: impl Fn(usize, u64) -> u64) -> Outcome<(ArraySubset, Piece)> {
    let mut local = piece.clone();
    let (mut start, mut shape) = (Vec::new(), Vec::new());
    for (axis, (part, chunk)) in local.parts.iter_mut().zip(chunk_shape).enumerate() {
        start.push(place(axis, part.chunk * chunk + part.inside));
        shape.push((part.count - 1) * part.step + 1);
        part.inside = 0;
    }
    let subset = ArraySubset::new_with_start_shape(start, shape).map_err(Failure::measurement)?;
    Ok((subset, local))
}

/// What zarrs says of a read that failed.
pub fn failed(error: ArrayError) -> Failure {
    Failure::measurement(one_line(&error))
}
