//! The promise of [`Objects`], run over every implementation: what is in a committed index can be opened and has its
//! digest; what was not finished does not exist.

use super::*;
use object_store::{
    CopyOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};
use std::sync::atomic::{AtomicUsize, Ordering};

fn key(n: u128) -> ObjectKey {
    ObjectKey::new(Uuid::from_u128((0x0190_0000_0000_7000_8000_0000_0000_0000_u128) + (n << 80) + n))
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|n| (n % 251) as u8).collect::<Vec<_>>().into()
}

async fn collect(stream: ByteStream) -> Result<Vec<u8>, ObjectError> {
    stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}

/// Writes in pieces of `piece` bytes, as a socket gives them.
async fn write(objects: &Objects, key: ObjectKey, bytes: &Bytes, piece: usize) -> Written {
    let mut writer = objects.create(key).await.unwrap();
    for start in (0..bytes.len()).step_by(piece) {
        writer.write(bytes.slice(start..bytes.len().min(start + piece))).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn what_was_finished_is_read_back(objects: &Objects) {
    for (n, length) in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES + 17].into_iter().enumerate() {
        let bytes = pattern(length);
        let written = write(objects, key(n as u128), &bytes, 65_521).await;
        assert_eq!(written, Written { key: key(n as u128), size: length as u64 });
        let (size, stream) = objects.open(&written.key, None).await.unwrap();
        assert_eq!((size, collect(stream).await.unwrap()), (length as u64, bytes.to_vec()), "{length} bytes");
    }
}

async fn a_range_gives_those_bytes(objects: &Objects) {
    let bytes = pattern(PART_BYTES * 2);
    let written = write(objects, key(20), &bytes, PART_BYTES).await;
    let whole = bytes.len() as u64;
    for range in [0..1, 1000..whole - 1000, whole - 1..whole, whole - 5000..whole + 9000] {
        let (size, stream) = objects.open(&written.key, Some(range.clone())).await.unwrap();
        let expected = &bytes[range.start as usize..bytes.len().min(range.end as usize)];
        assert_eq!(size, bytes.len() as u64, "the whole size, whatever the range");
        assert_eq!(collect(stream).await.unwrap(), expected, "{range:?}");
    }
}

async fn an_unfinished_object_does_not_exist(objects: &Objects) {
    for (n, length) in [10, 3 * PART_BYTES].into_iter().enumerate() {
        let (dropped, discarded) = (key(30 + n as u128), key(40 + n as u128));
        let mut writer = objects.create(dropped.clone()).await.unwrap();
        writer.write(pattern(length)).await.unwrap();
        drop(writer);
        let mut writer = objects.create(discarded.clone()).await.unwrap();
        writer.write(pattern(length)).await.unwrap();
        writer.discard().await;
        for key in [dropped, discarded] {
            assert!(matches!(objects.open(&key, None).await, Err(ObjectError::Missing { .. })), "{length} bytes");
        }
    }
}

async fn discard_is_repeatable_and_takes_only_its_key(objects: &Objects) {
    objects.put(key(50), pattern(10)).await.unwrap();
    objects.put(key(51), pattern(11)).await.unwrap();
    objects.discard(&key(50)).await.unwrap();
    objects.discard(&key(50)).await.unwrap();
    assert!(matches!(objects.open(&key(50), None).await, Err(ObjectError::Missing { .. })));
    assert_eq!(objects.read(&key(51), 11).await.unwrap(), pattern(11));
}

async fn a_read_is_bounded_before_the_first_byte(objects: &Objects) {
    objects.put(key(60), pattern(1000)).await.unwrap();
    assert!(matches!(objects.read(&key(60), 999).await, Err(ObjectError::TooLarge { size: 1000, limit: 999, .. })));
    assert_eq!(objects.read(&key(60), 1000).await.unwrap().len(), 1000);
}

async fn an_altered_object_is_never_given_whole(objects: &Objects) {
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    let offset = 400;
    let bytes = pattern(PART_BYTES + 5000);
    let mut digester = Digester::new(EXPLICIT);
    digester.update(&bytes[offset..]);
    let digest = digester.finish();
    let written = write(objects, key(70), &bytes, 8192).await;
    let (_, stream) = objects.open_verified(&written.key, EXPLICIT, offset as u64, digest).await.unwrap();
    assert_eq!(collect(stream).await.unwrap(), bytes.to_vec());

    for (n, at) in [offset, bytes.len() - 1].into_iter().enumerate() {
        let mut other = bytes.to_vec();
        other[at] ^= 1;
        let written = write(objects, key(71 + n as u128), &other.clone().into(), 8192).await;
        let (_, mut stream) = objects.open_verified(&written.key, EXPLICIT, offset as u64, digest).await.unwrap();
        let mut given = 0;
        let end = loop {
            match stream.next().await {
                Some(Ok(chunk)) => given += chunk.len(),
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(ObjectError::Altered { .. }))), "byte {at}");
        assert!(given < other.len(), "byte {at}");
    }
    let short = objects.put(key(75), pattern(offset - 1)).await.unwrap();
    let (_, stream) = objects.open_verified(&short.key, EXPLICIT, offset as u64, digest).await.unwrap();
    assert!(matches!(collect(stream).await, Err(ObjectError::Altered { .. })), "an object shorter than its head");
}

/// The time at which [`key`] was made.
fn made() -> Range<Timestamp> {
    let made = Timestamp::from_millisecond(0x0190_0000_0000).unwrap();
    made..made + jiff::SignedDuration::from_mins(1)
}

async fn strays_are_listed_by_age(objects: &Objects) {
    objects.put(key(80), pattern(10)).await.unwrap();
    let later = Timestamp::from_second(4_000_000_000).unwrap();
    assert!(objects.strays(made(), Timestamp::UNIX_EPOCH, 100_000).await.unwrap().is_empty(), "all were written since");
    assert!(objects.strays(made(), later, 100_000).await.unwrap().contains(&key(80)));
    assert_eq!(objects.strays(made(), later, 1).await.unwrap().len(), 1);
    let other_day = Timestamp::UNIX_EPOCH..Timestamp::from_second(3600).unwrap();
    assert!(objects.strays(other_day, later, 100_000).await.unwrap().is_empty(), "keys of another time");
}

async fn parallel_writers_do_not_meet(objects: &Objects) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let objects = objects.clone();
        tasks.spawn(async move { write(&objects, ObjectKey::new(Uuid::from_u128((7 << 96) + n)), &pattern(3000 + n as usize), 512).await });
    }
    let mut written = tasks.join_all().await;
    written.sort_by(|a, b| a.key.cmp(&b.key));
    for (n, written) in written.iter().enumerate() {
        assert_eq!(objects.read(&written.key, 1 << 20).await.unwrap(), pattern(3000 + n));
    }
}

async fn everything(objects: Objects) {
    what_was_finished_is_read_back(&objects).await;
    a_range_gives_those_bytes(&objects).await;
    an_unfinished_object_does_not_exist(&objects).await;
    discard_is_repeatable_and_takes_only_its_key(&objects).await;
    a_read_is_bounded_before_the_first_byte(&objects).await;
    an_altered_object_is_never_given_whole(&objects).await;
    strays_are_listed_by_age(&objects).await;
    parallel_writers_do_not_meet(&objects).await;
}

#[tokio::test]
async fn memory_keeps_the_promise() {
    everything(Objects::memory()).await;
}

#[tokio::test]
async fn a_local_directory_keeps_the_promise() {
    let root = tempfile::tempdir().unwrap();
    everything(Objects::local(root.path()).unwrap()).await;
}

#[tokio::test]
async fn an_object_outlives_the_process_that_wrote_it() {
    let root = tempfile::tempdir().unwrap();
    Objects::local(root.path()).unwrap().put(key(1), pattern(2_000_000)).await.unwrap();
    assert_eq!(Objects::local(root.path()).unwrap().read(&key(1), 2_000_000).await.unwrap(), pattern(2_000_000));
}

/// Memory whose n-th write fails.
#[derive(Debug)]
struct Faulty {
    memory: InMemory,
    writes_left: Arc<AtomicUsize>,
}

fn spend(left: &AtomicUsize) -> object_store::Result<()> {
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Ok(()),
        Err(_) => Err(object_store::Error::Generic { store: "faulty", source: "no space left".into() }),
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

#[derive(Debug)]
struct FaultyUpload(Box<dyn MultipartUpload>, Arc<AtomicUsize>);

#[async_trait::async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match spend(&self.1) {
            Ok(()) => self.0.put_part(data),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        spend(&self.1)?;
        self.0.complete().await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.0.abort().await
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &StorePath, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        spend(&self.writes_left)?;
        self.memory.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        spend(&self.writes_left)?;
        let upload = self.memory.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultyUpload(upload, Arc::clone(&self.writes_left))))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> object_store::Result<GetResult> {
        self.memory.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<StorePath>>,
    ) -> BoxStream<'static, object_store::Result<StorePath>> {
        self.memory.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> object_store::Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> object_store::Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_write_that_fails_anywhere_is_an_error_and_leaves_no_object() {
    for length in [100, 5 * PART_BYTES] {
        let mut failures = 0;
        for writes in 0.. {
            let store = Faulty { memory: InMemory::new(), writes_left: Arc::new(AtomicUsize::new(writes)) };
            let objects = Objects::over(Arc::new(store));
            let mut writer = objects.create(key(1)).await.unwrap();
            let mut result = Ok(());
            for chunk in pattern(length).chunks(100_000) {
                result = writer.write(Bytes::copy_from_slice(chunk)).await;
                if result.is_err() {
                    break;
                }
            }
            let result = match result {
                Ok(()) => writer.finish().await.map(|_| ()),
                Err(error) => {
                    writer.discard().await;
                    Err(error)
                }
            };
            if result.is_ok() {
                assert_eq!(objects.read(&key(1), u64::MAX).await.unwrap(), pattern(length));
                break;
            }
            failures += 1;
            assert!(matches!(objects.open(&key(1), None).await, Err(ObjectError::Missing { .. })), "{writes} writes of {length} bytes");
        }
        assert!(failures > 0, "{length} bytes");
    }
}

#[tokio::test]
async fn staged_bytes_that_a_crash_left_go_and_objects_stay() {
    let root = tempfile::tempdir().unwrap();
    let objects = Objects::local(root.path()).unwrap();
    objects.put(key(1), pattern(10)).await.unwrap();
    let staged = root.path().join(format!("{}#1", key(2)));
    std::fs::write(&staged, b"half an object").unwrap();
    let later = Timestamp::from_second(4_000_000_000).unwrap();
    assert_eq!(objects.remove_unfinished(made(), Timestamp::UNIX_EPOCH).await.unwrap(), 0, "still being written");
    assert_eq!(objects.remove_unfinished(made(), later).await.unwrap(), 1);
    assert!(!staged.exists());
    assert_eq!(objects.read(&key(1), 10).await.unwrap(), pattern(10));
}

#[tokio::test]
async fn a_directory_that_takes_no_files_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let objects = Objects::local(root.path()).unwrap();
    std::fs::write(root.path().join("0190"), b"a file where a folder has to be").unwrap();
    assert!(matches!(objects.put(key(2), pattern(10)).await, Err(ObjectError::Folder(_))));
}

#[test]
fn only_our_own_keys_are_read_back() {
    let key = ObjectKey::new(Uuid::from_u128(0x0190_abcd_0000_7000_8000_0000_0000_000e));
    assert_eq!(ObjectKey::parse(&key.to_string()), Some(key.clone()));
    let text = key.to_string();
    for bad in ["", "/", "a", "../../etc/passwd", &text[1..], &text.to_uppercase(), &format!("{text}/"), &text.replace('/', "//")] {
        assert_eq!(ObjectKey::parse(bad), None, "{bad}");
    }
}
