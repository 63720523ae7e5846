//! Loads, attaches and pins the guards; takes over what an earlier run pinned; clears it all.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, Program, ProgramError,
    RawTracePoint, SchedClassifier,
};
use aya::{Ebpf, EbpfLoader};
use bulkhead_abi::ABI_VERSION;
use bulkhead_abi::guard::Settings;

use super::map::Cells;
use super::{Config, GuardError, wall};
use crate::btf::Btf;
use crate::cgroup;
use crate::objects;

/// Programs for calls.
const CALLS: [&str; 4] = ["guard_connect4", "guard_connect6", "guard_sendmsg4", "guard_sendmsg6"];
/// Programs for sockets' packets.
const PACKETS: [(&str, CgroupSkbAttachType); 2] = [
    ("guard_ingress", CgroupSkbAttachType::Ingress),
    ("guard_egress", CgroupSkbAttachType::Egress),
];
/// Programs for new and old cgroups, and their tracepoints.
const CGROUPS: [(&str, &str); 2] =
    [("guard_cgroup_mkdir", "cgroup_mkdir"), ("guard_cgroup_rmdir", "cgroup_rmdir")];
/// Where the programs for new cgroups find their way, and where these fields lie in the kernel's structs.
const FIELDS: [(&str, &str, &[&str]); 6] = [
    ("OFFSET_CGROUP_KN", "cgroup", &["kn"]),
    ("OFFSET_CGROUP_ROOT", "cgroup", &["root"]),
    ("OFFSET_ROOT_HIERARCHY", "cgroup_root", &["hierarchy_id"]),
    ("OFFSET_KN_ID", "kernfs_node", &["id"]),
    ("OFFSET_KN_PARENT", "kernfs_node", &["parent", "__parent"]),
    ("OFFSET_KN_NAME", "kernfs_node", &["name"]),
];

/// Refuses pins that another version made.
pub(super) fn check_abi(pins: &Path) -> Result<(), GuardError> {
    let other = |found| GuardError::OtherAbi { path: pins.into(), found, expected: ABI_VERSION };
    if pins.join("ABI").exists() {
        return match Cells::<u32>::open(pins, "ABI")?.at(0)? {
            ABI_VERSION => Ok(()),
            found => Err(other(found)),
        };
    }
    if pins.join("LEASES").exists() || pins.join("SLOTS").exists() {
        return Err(other(0));
    }
    Ok(())
}

pub(super) fn install(config: &Config) -> Result<(), GuardError> {
    let pins = &config.pin_dir;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(pins)
        .map_err(GuardError::io("make directory", pins))?;
    check_abi(pins)?;
    let fresh = !pins.join("ABI").exists();
    let mut object = load(pins)?;
    // Without it a first start that was cut short would look like another ABI's pins: written before any link.
    if fresh {
        Cells::<u32>::open(pins, "ABI")?.put(0, ABI_VERSION)?;
    }
    let mut settings: Cells<Settings> = Cells::open(pins, "SETTINGS")?;
    let hold_ns = u64::try_from(config.hold.as_nanos()).unwrap_or(u64::MAX);
    let current = settings.at(0)?;
    let root = cgroup::id(&config.cgroup_root)?;
    settings.put(0, Settings { hold_ns, root, ..current })?;
    attach(&mut object, config)
}

fn load(pins: &Path) -> Result<Ebpf, GuardError> {
    let btf = Btf::of_kernel().ok();
    let mut offsets = Vec::new();
    for (global, of, names) in FIELDS {
        let found = btf.as_ref().and_then(|b| names.iter().find_map(|name| b.offset(of, name)));
        offsets.push((global, found.ok_or(GuardError::Field { field: names[0] })?));
    }
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(pins);
    for (global, offset) in &offsets {
        loader.override_global(global, offset, true);
    }
    loader.load(objects::GUARD).map_err(|source| GuardError::Load { source: Box::new(source) })
}

/// Attaches everything, each new link before the old one of its name goes: a refusal is the OR of both.
fn attach(object: &mut Ebpf, config: &Config) -> Result<(), GuardError> {
    let root = &config.cgroup_root;
    let cgroup = File::open(root).map_err(GuardError::io("open cgroup", root))?;
    let pins = &config.pin_dir;
    for name in CALLS {
        let program: &mut CgroupSockAddr = program(object, name)?;
        let failed = failed(name);
        program.load().map_err(failed("load"))?;
        let id = program.attach(&cgroup, CgroupAttachMode::Single).map_err(failed("attach"))?;
        let link = program.take_link(id).map_err(failed("attach"))?;
        keep(pins, name, FdLink::try_from(link))?;
    }
    for (name, direction) in PACKETS {
        let program: &mut CgroupSkb = program(object, name)?;
        let failed = failed(name);
        program.load().map_err(failed("load"))?;
        let mode = CgroupAttachMode::Single;
        let id = program.attach(&cgroup, direction, mode).map_err(failed("attach"))?;
        let link = program.take_link(id).map_err(failed("attach"))?;
        keep(pins, name, FdLink::try_from(link))?;
    }
    for (name, tracepoint) in CGROUPS {
        let program: &mut RawTracePoint = program(object, name)?;
        let failed = failed(name);
        program.load().map_err(failed("load"))?;
        let id = program.attach(tracepoint).map_err(failed("attach"))?;
        let link = program.take_link(id).map_err(failed("attach"))?;
        keep(pins, name, Ok(FdLink::from(link)))?;
    }
    for name in wall::PROGRAMS {
        let program: &mut SchedClassifier = program(object, name)?;
        let failed = failed(name);
        program.load().map_err(failed("load"))?;
        let (new, path) = (pins.join(format!("{name}_new")), pins.join(name));
        drop(fs::remove_file(&new));
        program.pin(&new).map_err(|source| GuardError::Pin { path: new.clone(), source })?;
        fs::rename(&new, &path).map_err(GuardError::io("replace pin", &path))?;
    }
    wall::renew(pins)
}

/// How an attempt on one program failed.
fn failed(
    name: &'static str,
) -> impl Copy + Fn(&'static str) -> Box<dyn FnOnce(ProgramError) -> GuardError> {
    move |what| {
        Box::new(move |source| GuardError::Program {
            what,
            program: name.into(),
            source: Box::new(source),
        })
    }
}

/// A program of the object, by its kind.
fn program<'a, P>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, GuardError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = object.program_mut(name).expect("the object was built with all of its programs");
    program.try_into().map_err(failed(name)("use"))
}

/// Pins a link under its name, in place of an older one, which is detached by that.
fn keep(
    pins: &Path,
    name: &str,
    link: Result<FdLink, aya::programs::links::LinkError>,
) -> Result<(), GuardError> {
    let link = link.map_err(|source| GuardError::Link { program: name.into(), source })?;
    pin_over(link, &link_path(pins, name))
}

/// Pins a link at a path, over whatever is there.
pub(super) fn pin_over(link: FdLink, path: &Path) -> Result<(), GuardError> {
    let mut new = path.as_os_str().to_owned();
    // No dot: bpffs keeps names with one for itself.
    new.push("_new");
    let new = PathBuf::from(new);
    // Left behind by a start that was cut short.
    drop(fs::remove_file(&new));
    link.pin(&new).map_err(|source| GuardError::Pin { path: new.clone(), source })?;
    fs::rename(&new, path).map_err(GuardError::io("replace pin", path))
}

fn link_path(pins: &Path, name: &str) -> PathBuf {
    pins.join(format!("link_{name}"))
}

/// Removes links first, then programs and maps: nothing is judged by half a state.
pub(super) fn uninstall(pins: &Path) -> Result<(), GuardError> {
    let entries = match fs::read_dir(pins) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(GuardError::io("read directory", pins)(e)),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort_by_key(|p| {
        !p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"link_"))
    });
    for path in paths {
        fs::remove_file(&path).map_err(GuardError::io("remove pin", &path))?;
    }
    fs::remove_dir(pins).map_err(GuardError::io("remove directory", pins))
}
