//! Users and groups of an image, by name or number.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::{ImageError, sys};
use super::inroot;

/// Largest /etc/passwd or /etc/group that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// Who a process is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id: the one asked for, or the user's own; 0 when it has none.
    pub gid: u32,
    /// Groups that list the user as a member, ascending, without `gid`.
    pub additional_gids: Vec<u32>,
    /// Home directory, when the image's /etc/passwd has one.
    pub home: Option<String>,
    /// Name, when the image's /etc/passwd has one.
    pub name: Option<String>,
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Resolves `user`, `user:group`, `:group` or nothing (root), names and numbers alike, inside the root file system at
/// `rootfs`: links in it are followed as a process inside would, devices and fifos are not opened.
///
/// A number need not be in /etc/passwd; a name must. Supplementary groups are the user's memberships, even when a group is
/// given, as Kubernetes has it.
///
/// # Errors
/// [`ImageError::User`] for a name that does not exist; [`ImageError::Io`].
///
/// Spec: image-spec `config.md`, `User`; Kubernetes `supplementalGroupsPolicy: Merge`.
pub fn resolve(rootfs: &Path, user: &str) -> Result<User, ImageError> {
    let (passwd, group) = (read(rootfs, "etc/passwd")?, read(rootfs, "etc/group")?);
    find(user, &accounts(&passwd), &groups(&group)).map_err(|why| ImageError::User { user: user.to_owned(), why })
}

fn find(text: &str, accounts: &[Account], groups: &[Group]) -> Result<User, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name of digits only is a number first, as in Docker and runc.
    let number = number(user)?;
    let account = match number {
        Some(uid) => accounts.iter().find(|account| account.uid == uid),
        None => accounts.iter().find(|account| account.name == user),
    };
    let uid = match (number, account) {
        (Some(uid), _) => uid,
        (None, Some(account)) => account.uid,
        (None, None) => return Err(format!("no user `{user}` in the image's /etc/passwd (a number needs no entry)")),
    };
    let gid = match group {
        Some(group) => group_id(group, groups)?,
        None => account.map_or(0, |account| account.gid),
    };
    let name = account.map(|account| account.name.clone());
    let is_member = |group: &&Group| name.as_ref().is_some_and(|name| group.members.contains(name));
    let mut additional_gids: Vec<u32> = groups.iter().filter(is_member).map(|group| group.gid).filter(|&g| g != gid).collect();
    additional_gids.sort_unstable();
    additional_gids.dedup();
    let home = account.map(|account| account.home.clone()).filter(|home| home.starts_with('/'));
    Ok(User { uid, gid, additional_gids, home, name })
}

fn group_id(group: &str, groups: &[Group]) -> Result<u32, String> {
    if let Some(gid) = number(group)? {
        return Ok(gid);
    }
    let found = groups.iter().find(|known| known.name == group).map(|known| known.gid);
    found.ok_or_else(|| format!("no group `{group}` in the image's /etc/group (a number needs no entry)"))
}

/// An id, when it is a number at all. The highest 32-bit number means "no change" to the kernel.
fn number(text: &str) -> Result<Option<u32>, String> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id < u32::MAX => Ok(Some(id)),
        _ => Err(format!("{text} is too large for an id")),
    }
}

/// A file of the image; empty when it has none.
fn read(rootfs: &Path, name: &str) -> Result<String, ImageError> {
    let shown = || rootfs.join(name);
    let root = inroot::open_dir(rootfs).map_err(sys("open", rootfs))?;
    // O_PATH first: opening a device can act on it.
    let path = match inroot::open_in(root.as_fd(), name.as_bytes(), OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => other.map_err(sys("open", shown()))?,
    };
    let stat = rustix::fs::fstat(&path).map_err(sys("look at", shown()))?;
    if inroot::file_type(&stat) != rustix::fs::FileType::RegularFile {
        return Err(sys("read", shown())(io::Error::other("not a regular file")));
    }
    let file = inroot::open_in(root.as_fd(), name.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
    let mut bytes = Vec::new();
    let file = File::from(file.map_err(sys("open", shown()))?);
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(sys("read", shown()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(sys("read", shown())(io::Error::other(format!("larger than {LARGEST} bytes"))));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// man: passwd(5). Lines that are none are passed over, as libc does.
fn accounts(text: &str) -> Vec<Account> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).unwrap_or_default();
        Some(Account { name: name.to_owned(), uid, gid, home: home.to_owned() })
    };
    text.lines().filter_map(account).collect()
}

/// man: group(5).
fn groups(text: &str) -> Vec<Group> {
    let group = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default().split(',').filter(|m| !m.is_empty()).map(str::to_owned);
        Some(Group { name: name.to_owned(), gid, members: members.collect() })
    };
    text.lines().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:34::/srv/web:\nx:x:bad:0::/:\n5:x:7:7::/five:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:web\nadm:x:4:root,web\nlog:x:3:web\n";

    fn user(text: &str) -> Result<User, String> {
        find(text, &accounts(PASSWD), &groups(GROUP))
    }

    #[test]
    fn names_and_numbers() {
        let web = User { uid: 33, gid: 34, additional_gids: vec![3, 4], home: Some("/srv/web".into()), name: Some("web".into()) };
        assert_eq!(user("web"), Ok(web.clone()));
        assert_eq!(user("33"), Ok(web.clone()));
        assert_eq!(user("web:"), Ok(web.clone()));
        assert_eq!(user("web:adm"), Ok(User { gid: 4, additional_gids: vec![3, 34], ..web.clone() }));
        assert_eq!(user("web:77"), Ok(User { gid: 77, additional_gids: vec![3, 4, 34], ..web }));
        let nobody = User { uid: 5, gid: 0, additional_gids: vec![], home: None, name: None };
        assert_eq!(user("5"), Ok(nobody), "a number even where a user has that name");
        for root in ["", "0", "root", ":"] {
            assert_eq!(user(root).unwrap().home.as_deref(), Some("/root"), "{root:?}");
        }
    }

    #[test]
    fn unknown_ones_are_refused() {
        for wrong in ["nobody", "web:nogroup", "4294967295", "99999999999", "0:4294967295", "x"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_stay_inside_and_devices_are_not_read() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("passwd"), "evil:x:66:66::/:\n").unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink(outside.path().join("passwd"), root.path().join("etc/passwd")).unwrap();
        assert!(resolve(root.path(), "evil").is_err());
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        fs::write(root.path().join("usr/lib/passwd"), PASSWD).unwrap();
        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        symlink("/usr/lib/passwd", root.path().join("etc/passwd")).unwrap();
        assert_eq!(resolve(root.path(), "web").unwrap().uid, 33);
        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        let dir = inroot::open_dir(&root.path().join("etc")).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(&dir, "passwd", rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(resolve(root.path(), "0").unwrap_err().to_string().contains("passwd"));
    }
}
