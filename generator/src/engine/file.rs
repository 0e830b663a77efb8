//! Follows files that change. Each is read twice a second, so that a rewrite, a rename and the symlink swap of a mounted
//! Secret are noticed within a second on every file system.

use crate::model::content::MAX_BYTES;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

const EVERY: Duration = Duration::from_millis(500);

/// Calls `changed` with the file's content, or with the reason why it cannot be read: now, and whenever that changes. Ends
/// when `changed` returns `false`.
pub(crate) async fn follow<F: Future<Output = bool>>(path: &Path, mut changed: impl FnMut(io::Result<Vec<u8>>) -> F) {
    let mut last: Option<Result<Vec<u8>, io::ErrorKind>> = None;
    loop {
        let content = read(path).await;
        let comparable = content.as_ref().map(Clone::clone).map_err(io::Error::kind);
        if last.as_ref() != Some(&comparable) {
            last = Some(comparable);
            if !changed(content).await {
                return;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Reads a file. If it is larger than any Secret can be, it reads just enough to show that.
async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    tokio::fs::File::open(path).await?.take(limit).read_to_end(&mut content).await?;
    Ok(content)
}
