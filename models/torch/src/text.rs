//! Text as byte tokens, and batches that follow from a key.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use tch::Tensor;

use crate::error::Error;

/// Bytes of text that a corpus holds at most, in memory of each process that trains on it: enough
/// for the text that comes with libtorch (48 MB).
const MOST_BYTES: u64 = 64 << 20;

/// Text to train on, as bytes; a token id is a byte's value.
pub struct Corpus {
    bytes: Vec<u8>,
    digest: [u8; 32],
}

/// What a batch follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchKey {
    /// Seed of the run.
    pub seed: u64,
    /// The job's id.
    pub job: u64,
    /// The iteration, from 0.
    pub iteration: u64,
    /// The micro-batch, from 0.
    pub micro_batch: u32,
}

/// Size of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Sequences, at least 1.
    pub sequences: u32,
    /// Tokens of each, at least 1.
    pub tokens: u32,
}

/// A micro-batch: each target is the token that follows.
#[derive(Debug)]
pub struct Batch {
    /// 64-bit token ids (sequences, tokens), on the CPU.
    pub tokens: Tensor,
    /// 64-bit token ids (sequences, tokens), on the CPU.
    pub targets: Tensor,
}

/// Text that came with libtorch: its Python sources where `scripts/libtorch` kept them, else its C++
/// headers; of the libtorch this program was built with, else of the one that `LIBTORCH` names
/// now. None if neither is there.
pub fn default_corpus_dir() -> Option<PathBuf> {
    let built_with = PathBuf::from(env!("BACE_LIBTORCH"));
    let named = std::env::var_os("LIBTORCH").map(PathBuf::from);
    [Some(built_with), named]
        .into_iter()
        .flatten()
        .flat_map(|folder| ["text", "include"].map(|name| folder.join(name)))
        .find(|folder| folder.is_dir())
}

impl Corpus {
    /// Reads a file, or a folder with all below it, in the order of the names' bytes, up to the
    /// first 64 MiB.
    ///
    /// In a folder, only what is text counts: symbolic links, hidden entries (`.git`), empty files
    /// and files that are not UTF-8 or hold a zero byte are passed over. The texts follow each
    /// other without anything in between.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for the path and for any file or folder below it; [`Error::NotAFile`],
    /// [`Error::NotText`], [`Error::NoText`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_up_to(path, MOST_BYTES)
    }

    fn load_up_to(path: &Path, limit: u64) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(unreadable(path))?;
        let mut bytes = Vec::new();
        if metadata.is_dir() {
            read_folder(path, &mut bytes, limit)?;
            if bytes.is_empty() {
                return Err(Error::NoText(path.to_owned()));
            }
        } else if metadata.is_file() {
            read_file(path, &mut bytes, limit)?;
            if bytes.is_empty() {
                return Err(Error::NotText(path.to_owned()));
            }
        } else {
            return Err(Error::NotAFile(path.to_owned()));
        }
        Ok(Self::from_bytes(bytes))
    }

    /// A corpus of these bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let digest = *blake3::hash(&bytes).as_bytes();
        Self { bytes, digest }
    }

    /// BLAKE3 of the text; two workers with the same digest cut the same batches.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Length of the text.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Checks that batches of this shape can be cut.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`], [`Error::TooShort`].
    pub fn check(&self, shape: BatchShape) -> Result<(), Error> {
        shape.check()?;
        let needed = shape.tokens as usize + 1;
        if self.bytes.len() < needed {
            return Err(Error::TooShort {
                needed,
                available: self.bytes.len(),
            });
        }
        Ok(())
    }

    /// The micro-batch of this key: each sequence is a piece of the text from a place drawn from
    /// the key. The same key, shape and text give the same micro-batch anywhere.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`], [`Error::TooShort`].
    pub fn batch(&self, key: BatchKey, shape: BatchShape) -> Result<Batch, Error> {
        self.check(shape)?;
        let length = shape.tokens as usize;
        let mut tokens = Vec::with_capacity(shape.sequences as usize * length);
        let mut targets = Vec::with_capacity(tokens.capacity());
        let places = (self.bytes.len() - length) as u64;
        let mut draws = key.draws();
        for _ in 0..shape.sequences {
            let start = draws.below(places) as usize;
            let piece = &self.bytes[start..=start + length];
            tokens.extend(piece[..length].iter().map(|&byte| i64::from(byte)));
            targets.extend(piece[1..].iter().map(|&byte| i64::from(byte)));
        }
        let size = [shape.sequences, shape.tokens].map(i64::from);
        Ok(Batch {
            tokens: Tensor::from_slice(&tokens).view(size),
            targets: Tensor::from_slice(&targets).view(size),
        })
    }
}

impl std::fmt::Debug for Corpus {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Corpus({} bytes)", self.bytes.len())
    }
}

impl BatchShape {
    pub(crate) fn check(self) -> Result<(), Error> {
        let Self { sequences, tokens } = self;
        if sequences == 0 || tokens == 0 {
            return Err(Error::EmptyBatch { sequences, tokens });
        }
        Ok(())
    }
}

impl BatchKey {
    fn draws(self) -> Draws {
        let mut hasher = blake3::Hasher::new_derive_key("bace-torch 1 batch");
        for number in [
            self.seed,
            self.job,
            self.iteration,
            u64::from(self.micro_batch),
        ] {
            hasher.update(&number.to_le_bytes());
        }
        Draws(hasher.finalize_xof())
    }
}

/// Numbers drawn from a batch's key.
struct Draws(blake3::OutputReader);

impl Draws {
    /// A number in `0..bound`; `bound` is not 0 and far below 2^64, so the bias is far below what
    /// a text can show.
    fn below(&mut self, bound: u64) -> u64 {
        let mut word = [0; 8];
        self.0.fill(&mut word);
        let product = u128::from(u64::from_le_bytes(word)) * u128::from(bound);
        (product >> 64) as u64
    }
}

/// Reads the texts of a folder, depth first, until the corpus is full.
fn read_folder(folder: &Path, bytes: &mut Vec<u8>, limit: u64) -> Result<(), Error> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        if bytes.len() as u64 >= limit {
            break;
        }
        if path != folder
            && fs::symlink_metadata(&path)
                .map_err(unreadable(&path))?
                .is_file()
        {
            read_file(&path, bytes, limit)?;
            continue;
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path).map_err(unreadable(&path))? {
            let entry = entry.map_err(unreadable(&path))?;
            let kind = entry.file_type().map_err(unreadable(&path))?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden && (kind.is_dir() || kind.is_file()) {
                entries.push(entry.path());
            }
        }
        entries.sort_unstable_by(|left, right| right.cmp(left));
        waiting.append(&mut entries);
    }
    Ok(())
}

/// Appends a file if it is text, up to the corpus's limit.
fn read_file(path: &Path, bytes: &mut Vec<u8>, limit: u64) -> Result<(), Error> {
    let file = File::open(path).map_err(unreadable(path))?;
    // Files of the kernel have no size, and reading them may block.
    if file.metadata().map_err(unreadable(path))?.len() == 0 {
        return Ok(());
    }
    let start = bytes.len();
    file.take(limit - start as u64)
        .read_to_end(bytes)
        .map_err(unreadable(path))?;
    if !is_text(&bytes[start..]) {
        bytes.truncate(start);
    }
    Ok(())
}

/// UTF-8 without a zero byte; the limit may have cut its last character.
fn is_text(bytes: &[u8]) -> bool {
    let utf8 = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    utf8 && !bytes.contains(&0)
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Unreadable { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BatchKey {
        BatchKey {
            seed: 1,
            job: 2,
            iteration: 3,
            micro_batch: 4,
        }
    }

    const SHAPE: BatchShape = BatchShape {
        sequences: 2,
        tokens: 5,
    };

    /// The corpus's text, or the message.
    fn load(path: &Path, limit: u64) -> Result<String, String> {
        let corpus = Corpus::load_up_to(path, limit).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&corpus.bytes).into_owned())
    }

    /// A folder with text in three files, and six things that are passed over.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("b.txt", "bé".as_bytes());
        write("a/z.txt", b"az ");
        write("c.txt", b" c");
        write("a/empty", b"");
        write("latin1.txt", b"\xe9t\xe9");
        write("zero.bin", b"a\0b");
        write(".git/config", b"hidden");
        write("d/.secret", b"hidden");
        std::os::unix::fs::symlink("b.txt", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_its_texts_in_the_order_of_names_up_to_the_limit() {
        let folder = folder();
        assert_eq!(load(folder.path(), 100).unwrap(), "az bé c");
        assert_eq!(load(folder.path(), 7).unwrap(), "az bé ");
        assert_eq!(load(folder.path(), 3).unwrap(), "az ");
        // The limit cuts the é, which stays text.
        assert_eq!(load(folder.path(), 5).unwrap(), "az b\u{fffd}");
        assert_eq!(load(&folder.path().join("link"), 100).unwrap(), "bé");
    }

    #[test]
    fn what_is_no_text_says_so() {
        let folder = folder();
        let message = |name: &str| {
            let root = folder.path().to_string_lossy().into_owned();
            let message = load(&folder.path().join(name), 100).unwrap_err();
            message.replace(&root, "ROOT")
        };
        let messages = ["missing", "latin1.txt", "zero.bin", "a/empty", "d"].map(message);
        assert_eq!(
            messages.join("\n"),
            "read text from ROOT/missing: No such file or directory (os error 2)\n\
             read text from ROOT/latin1.txt: it is not UTF-8 text\n\
             read text from ROOT/zero.bin: it is not UTF-8 text\n\
             read text from ROOT/a/empty: it is not UTF-8 text\n\
             read text from ROOT/d: it holds no text (files in UTF-8, not empty, not hidden)"
        );
        assert_eq!(
            load(Path::new("/dev/null"), 100).unwrap_err(),
            "read text from /dev/null: neither a file nor a folder"
        );
    }

    /// Pinned, since workers of two builds have to cut the same batches.
    #[test]
    fn a_batch_follows_from_its_key() {
        let text: Vec<u8> = (0..=255).collect();
        let corpus = Corpus::from_bytes(text);
        let batch = corpus.batch(key(), SHAPE).unwrap();
        let ids = |tensor: &Tensor| Vec::<i64>::try_from(tensor.flatten(0, -1)).unwrap();
        assert_eq!(
            ids(&batch.tokens),
            [71, 72, 73, 74, 75, 192, 193, 194, 195, 196]
        );
        assert_eq!(
            ids(&batch.targets),
            ids(&batch.tokens)
                .iter()
                .map(|id| id + 1)
                .collect::<Vec<_>>()
        );
        for other in [
            BatchKey { seed: 0, ..key() },
            BatchKey { job: 0, ..key() },
            BatchKey {
                iteration: 0,
                ..key()
            },
            BatchKey {
                micro_batch: 0,
                ..key()
            },
        ] {
            assert!(corpus.batch(other, SHAPE).unwrap().tokens != batch.tokens);
        }
    }

    #[test]
    fn text_of_exactly_one_sequence_gives_it_and_less_is_refused() {
        let batch = Corpus::from_bytes(b"abcdef".to_vec()).batch(key(), SHAPE);
        assert_eq!(batch.unwrap().tokens.size(), [2, 5]);
        let batch = Corpus::from_bytes(b"abcde".to_vec()).batch(key(), SHAPE);
        assert_eq!(
            batch.unwrap_err().to_string(),
            "cut batches from 5 bytes of text: one sequence needs 6 bytes"
        );
        let nothing = BatchShape { tokens: 0, ..SHAPE };
        assert!(
            Corpus::from_bytes(Vec::new())
                .batch(key(), nothing)
                .is_err()
        );
    }
}
