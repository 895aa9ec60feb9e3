//! Who a container runs as.
//!
//! A request names a user by number (`run_as_user`) or by name (`run_as_username`); otherwise the
//! image does, in one of the forms `name`, `uid`, `name:group`, `uid:gid` and their mixtures.
//! Names are looked up in the image's own /etc/passwd and /etc/group. Those files come from
//! anyone's image: a line that makes no sense is passed over, and never costs more than reading it.

use crate::SpecError;
use crate::cri::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

/// The largest id that names someone: `(uid_t)-1` means "leave it as it is" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

/// A user, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, sorted, the primary one among them: a process that changes its primary group
    /// must not lose a group that a file's permissions deny.
    pub groups: Vec<u32>,
    /// Home directory, when /etc/passwd knows one.
    pub home: Option<String>,
}

/// The image's /etc/passwd and /etc/group, parsed. Missing files are empty ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFiles {
    users: Vec<PasswdEntry>,
    groups: Vec<GroupEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct GroupEntry {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl UserFiles {
    /// Parses the bytes of passwd(5) and group(5). Lines that do not parse are passed over.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            users: lines(passwd).filter_map(passwd_entry).collect(),
            groups: lines(group).filter_map(group_entry).collect(),
        }
    }

    fn by_name(&self, name: &str) -> Option<&PasswdEntry> {
        self.users.iter().find(|user| user.name == name)
    }

    fn by_uid(&self, uid: u32) -> Option<&PasswdEntry> {
        self.users.iter().find(|user| user.uid == uid)
    }

    fn group_by_name(&self, name: &str) -> Option<u32> {
        self.groups
            .iter()
            .find(|group| group.name == name)
            .map(|group| group.gid)
    }

    fn groups_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        self.groups
            .iter()
            .filter(move |group| group.members.iter().any(|member| member == name))
            .map(|group| group.gid)
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
}

/// `name:password:uid:gid:comment:home:shell`; the last three may be missing.
fn passwd_entry(line: &str) -> Option<PasswdEntry> {
    let mut fields = line.trim_end_matches('\r').split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok().filter(|id| *id <= MAX_ID)?;
    let gid = fields.next()?.parse().ok().filter(|id| *id <= MAX_ID)?;
    let home = fields.nth(1).unwrap_or_default().to_owned();
    Some(PasswdEntry {
        name,
        uid,
        gid,
        home,
    })
}

/// `name:password:gid:member,member`; the members may be missing.
fn group_entry(line: &str) -> Option<GroupEntry> {
    let mut fields = line.trim_end_matches('\r').split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let gid = fields.nth(1)?.parse().ok().filter(|id| *id <= MAX_ID)?;
    let members = fields.next().unwrap_or_default();
    let members = members
        .split(',')
        .filter(|m| !m.is_empty())
        .map(str::to_owned)
        .collect();
    Some(GroupEntry { name, gid, members })
}

/// A user string and the field it came from.
struct Wanted<'a> {
    user: &'a str,
    group: Option<&'a str>,
    field: &'static str,
}

/// Finds who a container runs as.
///
/// The request's `run_as_username` goes before its `run_as_user`, and both before the image's
/// user; with none of them it is root. `run_as_group` without a user of the request is an error,
/// as the CRI says. A uid that /etc/passwd does not know has group 0.
pub fn resolve_user(
    context: Option<&LinuxContainerSecurityContext>,
    image_user: &str,
    files: &UserFiles,
) -> Result<User, SpecError> {
    let run_as_user = id("linux.security_context.run_as_user", context, |c| {
        c.run_as_user
    })?;
    let run_as_group = id("linux.security_context.run_as_group", context, |c| {
        c.run_as_group
    })?;
    let username = context.map_or("", |c| c.run_as_username.as_str());
    let uid_text = run_as_user.map(|uid| uid.to_string());
    let wanted = match &uid_text {
        _ if !username.is_empty() => Wanted {
            user: username,
            group: None,
            field: "linux.security_context.run_as_username",
        },
        Some(uid) => Wanted {
            user: uid,
            group: None,
            field: "linux.security_context.run_as_user",
        },
        None if run_as_group.is_some() => {
            return Err(SpecError::invalid(
                "linux.security_context.run_as_group",
                "a group needs run_as_user or run_as_username beside it",
            ));
        }
        None => image_wish(image_user),
    };
    let (uid, entry) = if is_number(wanted.user) {
        let uid = number(wanted.user, wanted.field)?;
        (uid, files.by_uid(uid))
    } else {
        let entry = files.by_name(wanted.user).ok_or_else(|| {
            let reason = format!("no user {:?} in the image's /etc/passwd", wanted.user);
            SpecError::invalid(wanted.field, reason)
        })?;
        (entry.uid, Some(entry))
    };
    let gid = match (run_as_group, wanted.group) {
        (Some(gid), _) => gid,
        (None, Some(group)) => group_id(group, wanted.field, files)?,
        (None, None) => entry.map_or(0, |entry| entry.gid),
    };
    Ok(User {
        uid,
        gid,
        groups: groups(context, gid, entry, files)?,
        home: entry
            .map(|entry| entry.home.clone())
            .filter(|home| home.starts_with('/')),
    })
}

fn image_wish(user: &str) -> Wanted<'_> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    Wanted {
        user: if user.is_empty() { "0" } else { user },
        group,
        field: "image user",
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str, field: &'static str) -> Result<u32, SpecError> {
    text.parse()
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| SpecError::invalid(field, format!("{text} is not an id from 0 to {MAX_ID}")))
}

fn group_id(group: &str, field: &'static str, files: &UserFiles) -> Result<u32, SpecError> {
    if is_number(group) {
        return number(group, field);
    }
    files.group_by_name(group).ok_or_else(|| {
        SpecError::invalid(
            field,
            format!("no group {group:?} in the image's /etc/group"),
        )
    })
}

fn id(
    field: &'static str,
    context: Option<&LinuxContainerSecurityContext>,
    get: impl Fn(&LinuxContainerSecurityContext) -> Option<crate::cri::Int64Value>,
) -> Result<Option<u32>, SpecError> {
    let value = context.and_then(get).map(|value| value.value);
    value.map(|value| checked_id(field, value)).transpose()
}

fn checked_id(field: &str, value: i64) -> Result<u32, SpecError> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| {
            SpecError::invalid(field, format!("{value} is not an id from 0 to {MAX_ID}"))
        })
}

fn groups(
    context: Option<&LinuxContainerSecurityContext>,
    gid: u32,
    entry: Option<&PasswdEntry>,
    files: &UserFiles,
) -> Result<Vec<u32>, SpecError> {
    let mut groups = vec![gid];
    let mut policy = SupplementalGroupsPolicy::Merge;
    if let Some(context) = context {
        let field = "linux.security_context.supplemental_groups_policy";
        policy = SupplementalGroupsPolicy::try_from(context.supplemental_groups_policy)
            .map_err(|e| SpecError::invalid(field, e.to_string()))?;
        for (i, group) in context.supplemental_groups.iter().enumerate() {
            let field = format!("linux.security_context.supplemental_groups[{i}]");
            groups.push(checked_id(&field, *group)?);
        }
    }
    if let (SupplementalGroupsPolicy::Merge, Some(entry)) = (policy, entry) {
        groups.extend(files.groups_of(&entry.name));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

#[cfg(test)]
mod tests;
