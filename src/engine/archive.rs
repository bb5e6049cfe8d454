//! An image of lsm's own: some programs and one folder, as an archive that an engine loads. The same files give the same bytes.

use super::{Engine, Kind, Object};
use crate::error::{Code, Error, Result};
use crate::host::file;
use bollard::query_parameters::ImportImageOptions;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

const UNREADABLE: Code = Code::lacking("E-ENGINE-020");
const OTHER_IMAGE: Code = Code::unverified("E-ENGINE-021");
const CHANGED: Code = Code::refused("E-ENGINE-022");

/// The label by which an image says from which files of this machine it was made.
const MADE_FROM: &str = "lsm.image";

/// A tar is made of blocks of this size.
const BLOCK: u64 = 512;
/// How many bytes are sent at once.
const CHUNK: usize = 256 << 10;

/// What an image holds, and nothing else: no shell, no libraries but those of the programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its name with its tag.
    pub name: String,
    /// Each program's place on this machine, its place in the image, and its permission bits.
    pub programs: Vec<(PathBuf, String, u32)>,
    /// The folder that a volume is mounted over: an empty volume takes its owner and mode over.
    pub home: String,
    /// The user and group that it runs as, by number.
    pub uid: u32,
}

/// From what an image was made, but for its name: that may be another one, and the image the same.
#[derive(Serialize, Deserialize)]
struct Recipe {
    programs: Vec<(PathBuf, String, u32)>,
    home: String,
    uid: u32,
}

/// The parts of an archive but for the layer, which is as large as the programs.
struct Parts {
    /// The hash of the layer's tar.
    layer: String,
    /// The image's settings; their hash is its number in an engine's own store.
    config: Vec<u8>,
    /// Settings and layer together; its hash is the number in containerd's store.
    manifest: Vec<u8>,
}

impl Image {
    /// What an engine holds once it was loaded.
    pub fn object(&self, engine: &Path) -> Object {
        Object { engine: engine.to_owned(), object: Kind::Image, name: self.name.clone() }
    }

    /// The numbers that an engine may give it: the hash of its settings, or of its manifest.
    ///
    /// # Errors
    /// Where one of its programs cannot be read.
    pub fn numbers(&self) -> Result<[String; 2]> {
        let parts = self.parts()?;
        Ok([&parts.config, &parts.manifest].map(|part| digest(part)))
    }

    /// The whole archive: an OCI layout (opencontainers/image-spec, image-layout.md) that older engines, too, can load by its
    /// manifest.json (moby, image/tarexport).
    fn archive(&self) -> Result<impl Read + Send + use<>> {
        let parts = self.parts()?;
        let (tag, kind) = (self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag), "application/vnd.oci.image");
        let blob = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": format!("{kind}.manifest.v1+json"), "digest": digest(&parts.manifest), "size": parts.manifest.len(),
            "annotations": {
                "io.containerd.image.name": format!("docker.io/library/{}", self.name),
                "org.opencontainers.image.ref.name": tag,
            },
        }]});
        let list = json!([{
            "Config": blob(&digest(&parts.config)), "RepoTags": [self.name], "Layers": [blob(&parts.layer)],
        }]);
        let small =
            |path: &str, body: Vec<u8>| entry(path, EntryType::Regular, 0o644, 0, body.len() as u64, Cursor::new(body));
        let layer = entry(&blob(&parts.layer), EntryType::Regular, 0o644, 0, self.layer_size()?, self.layer()?)?;
        let (config, manifest) = (blob(&digest(&parts.config)), blob(&digest(&parts.manifest)));
        Ok(small("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes())?
            .chain(small("index.json", index.to_string().into_bytes())?)
            .chain(small("manifest.json", list.to_string().into_bytes())?)
            .chain(small(&config, parts.config)?)
            .chain(small(&manifest, parts.manifest)?)
            .chain(layer)
            .chain(end()))
    }

    fn parts(&self) -> Result<Parts> {
        let mut hash = Sha256::new();
        std::io::copy(&mut self.layer()?, &mut hash).map_err(|e| unreadable(&self.name, &e))?;
        let layer = format!("sha256:{}", hex::encode(hash.finalize()));
        let config = self.config(&layer).to_string().into_bytes();
        let kind = "application/vnd.oci.image";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
            "config": {
                "mediaType": format!("{kind}.config.v1+json"), "digest": digest(&config), "size": config.len(),
            },
            "layers": [{
                "mediaType": format!("{kind}.layer.v1.tar"), "digest": layer, "size": self.layer_size()?,
            }],
        });
        Ok(Parts { layer, config, manifest: manifest.to_string().into_bytes() })
    }

    fn config(&self, layer: &str) -> Value {
        let recipe = Recipe { programs: self.programs.clone(), home: self.home.clone(), uid: self.uid };
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        json!({
            "architecture": arch, "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": format!("{0}:{0}", self.uid), "WorkingDir": self.home,
                "Labels": {MADE_FROM: json!(recipe).to_string()},
            },
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "lsm"}],
        })
    }

    /// The layer's tar.
    fn layer(&self) -> Result<Box<dyn Read + Send>> {
        let home = format!("{}/", self.home.trim_start_matches('/'));
        let mut all: Box<dyn Read + Send> =
            Box::new(entry(&home, EntryType::Directory, 0o700, self.uid, 0, std::io::empty())?);
        for folder in self.folders() {
            all = Box::new(all.chain(entry(&folder, EntryType::Directory, 0o755, 0, 0, std::io::empty())?));
        }
        for (from, to, mode) in &self.programs {
            let (program, size) = open(from)?;
            all = Box::new(all.chain(entry(to.trim_start_matches('/'), EntryType::Regular, *mode, 0, size, program)?));
        }
        Ok(Box::new(all.chain(end())))
    }

    fn layer_size(&self) -> Result<u64> {
        let mut size = BLOCK * (1 + self.folders().len() as u64) + 2 * BLOCK;
        for (from, ..) in &self.programs {
            size += BLOCK + open(from)?.1.next_multiple_of(BLOCK);
        }
        Ok(size)
    }

    /// The folders above the programs, outermost first.
    fn folders(&self) -> Vec<String> {
        let mut folders: Vec<String> = Vec::new();
        for (_, to, _) in &self.programs {
            let above = Path::new(to).ancestors().skip(1).filter_map(|above| above.strip_prefix("/").ok());
            let named =
                above.filter(|above| !above.as_os_str().is_empty()).map(|above| format!("{}/", above.display()));
            folders.extend(named);
        }
        folders.sort();
        folders.dedup();
        folders
    }
}

impl Engine {
    /// Loads the image, and holds that it is the one that was sent.
    ///
    /// # Errors
    /// Where a program cannot be read, the engine has no room, or has something else under the name afterwards.
    pub fn load(&self, image: &Image) -> Result<()> {
        let archive = image.archive()?;
        let pieces = stream::iter(chunks(archive));
        let loaded = async {
            let mut said = std::pin::pin!(self.docker.import_image_stream(ImportImageOptions::default(), pieces, None));
            while let Some(line) = said.next().await {
                line?;
            }
            Ok(())
        };
        self.make("load the image", loaded)?;
        let found = self.find(Kind::Image, &image.name)?.map(|found| found.mark);
        if found.is_some_and(|number| image.numbers().is_ok_and(|numbers| numbers.contains(&number))) {
            return Ok(());
        }
        let cause = format!("the engine has another image than the one that was sent under the name {}", image.name);
        Err(Error::new(OTHER_IMAGE, cause).hint("who else may talk to the engine? see: docker images --digests"))
    }

    /// From what an image can be made again; nothing where there is none, or somebody else made it.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn recipe_of(&self, image: &str) -> Result<Option<Vec<u8>>> {
        let found = self.look("look at the image", self.docker.inspect_image(image))?;
        let labels = found.and_then(|found| found.config?.labels);
        Ok(labels.and_then(|mut labels| labels.remove(MADE_FROM)).map(String::into_bytes))
    }

    /// Makes the image with this number again under this name, of what [`Engine::recipe_of`] told of it.
    ///
    /// # Errors
    /// Where its programs are not what they were; as [`Engine::load`].
    pub fn load_again(&self, recipe: &[u8], name: &str, number: &str) -> Result<()> {
        let changed = || {
            Error::new(CHANGED, format!("the image {name} cannot be made again"))
                .hint("its programs are not what they were: lsm install makes one of those that are there")
        };
        let Recipe { programs, home, uid } = serde_json::from_slice(recipe).map_err(|e| changed().because(e))?;
        let image = Image { name: name.to_owned(), programs, home, uid };
        if !image.numbers()?.iter().any(|made| made == number) {
            return Err(changed());
        }
        self.load(&image)
    }
}

fn chunks(mut from: impl Read) -> impl Iterator<Item = std::io::Result<Bytes>> {
    std::iter::from_fn(move || {
        let mut chunk = Vec::with_capacity(CHUNK);
        match from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
            Ok(0) => None,
            Ok(_) => Some(Ok(chunk.into())),
            Err(e) => Some(Err(e)),
        }
    })
}

fn open(path: &Path) -> Result<(impl Read + Send + use<>, u64)> {
    let mut program = file::open_plain(path)?;
    let size = program.seek(std::io::SeekFrom::End(0)).map_err(|e| unreadable(&path.display().to_string(), &e))?;
    program.rewind().map_err(|e| unreadable(&path.display().to_string(), &e))?;
    // Were it to shrink, the archive would be cut short, and the engine refuse it.
    Ok((program.take(size), size))
}

/// One entry of a tar: its head, its body, and what fills its last block.
fn entry<R: Read + Send>(
    path: &str,
    kind: EntryType,
    mode: u32,
    owner: u32,
    size: u64,
    body: R,
) -> Result<impl Read + Send + use<R>> {
    let mut header = Header::new_ustar();
    header.set_path(path).map_err(|e| unreadable(path, &e))?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_size(size);
    header.set_mtime(0);
    header.set_cksum();
    let rest = size.next_multiple_of(BLOCK) - size;
    Ok(Cursor::new(header.as_bytes().to_vec()).chain(body).chain(std::io::repeat(0).take(rest)))
}

fn end() -> impl Read + Send + use<> {
    std::io::repeat(0).take(2 * BLOCK)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn unreadable(what: &str, e: &std::io::Error) -> Error {
    Error::new(UNREADABLE, format!("cannot read {what} for the image: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_archive_is_the_same_each_time_and_holds_its_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (lnd, lsm) = (dir.path().join("lnd"), dir.path().join("lsm"));
        std::fs::write(&lnd, vec![7; 1000]).unwrap();
        std::fs::write(&lsm, vec![8; 1024]).unwrap();
        let image = Image {
            name: "lsm-signer:v1".to_owned(),
            programs: vec![(lnd, "/lnd".to_owned(), 0o711), (lsm, "/lib/x/lsm".to_owned(), 0o755)],
            home: "/signer".to_owned(),
            uid: 10012,
        };
        let read = || {
            let mut bytes = Vec::new();
            image.archive().unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let bytes = read();
        assert_eq!(bytes, read());
        let mut outer = BTreeMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            outer.insert(entry.path().unwrap().display().to_string(), body);
        }
        let list: Value = serde_json::from_slice(&outer["manifest.json"]).unwrap();
        let (config, layer) = (list[0]["Config"].as_str().unwrap(), list[0]["Layers"][0].as_str().unwrap());
        for name in [config, layer] {
            assert!(digest(&outer[name]).ends_with(name.rsplit('/').next().unwrap()), "{name}");
        }
        assert_eq!(image.numbers().unwrap()[0], digest(&outer[config]));
        let told: Value = serde_json::from_slice(&outer[config]).unwrap();
        let recipe = told["config"]["Labels"][MADE_FROM].as_str().unwrap();
        let Recipe { programs, home, uid } = serde_json::from_str(recipe).unwrap();
        assert_eq!(Image { name: image.name.clone(), programs, home, uid }, image);
        let other_name = Image { name: "another:v2".to_owned(), ..image.clone() };
        assert_eq!(other_name.numbers().unwrap(), image.numbers().unwrap(), "by which the audit knows it");
        let mut layer = tar::Archive::new(&outer[layer][..]);
        let inside = layer.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let head = entry.header();
            (entry.path().unwrap().display().to_string(), head.mode().unwrap(), head.uid().unwrap(), entry.size())
        });
        let wanted = [
            ("signer/", 0o700, 10012, 0),
            ("lib/", 0o755, 0, 0),
            ("lib/x/", 0o755, 0, 0),
            ("lnd", 0o711, 0, 1000),
            ("lib/x/lsm", 0o755, 0, 1024),
        ];
        assert_eq!(
            inside.collect::<Vec<_>>(),
            wanted.map(|(path, mode, uid, size)| (path.to_owned(), mode, uid, size))
        );
    }
}
