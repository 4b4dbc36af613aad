//! `kavka group remove-members`.

use kavka_client::{ErrorCode, admin::MemberIdentity};

use crate::{
    completions,
    failure::{self, Failure},
    options::Options,
    output::{Report, Table, column},
};

use super::missing;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
pub(super) struct Args {
    /// The group
    #[arg(add = completions::groups())]
    group: String,

    /// A static member by its group.instance.id; repeatable
    #[arg(long = "instance", value_name = "ID", group = "whom")]
    instances: Vec<String>,

    /// A member by its member id; repeatable
    #[arg(long = "member", value_name = "ID", group = "whom")]
    members: Vec<String>,

    /// All members
    #[arg(long, group = "whom", conflicts_with_all = ["instances", "members"])]
    all: bool,

    /// Why, for the broker's log and the group's history
    #[arg(long, value_name = "WORDS")]
    reason: Option<String>,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let admin = options.admin()?;
    let group = args.group.as_str();
    let reason = args.reason.as_deref();
    let outcomes = if args.all {
        admin.remove_all_group_members(group, reason).await.map_err(|error| match error.code() {
            Some(ErrorCode::GroupIdNotFound) => missing(group),
            _ => error.into(),
        })?
    } else {
        let instances =
            args.instances.iter().map(|id| MemberIdentity::Instance(id.as_str().into()));
        let members = args.members.iter().map(|id| MemberIdentity::Member(id.as_str().into()));
        admin.remove_group_members(group, instances.chain(members), reason).await
    };
    let mut table = Table::new([
        column("group"),
        column("group_instance_id"),
        column("member_id"),
        column("removed"),
    ]);
    let mut failures = Vec::new();
    for (member, outcome) in outcomes {
        let (instance, id) = match &member {
            MemberIdentity::Instance(id) => (Some(id.to_string()), None),
            MemberIdentity::Member(id) => (None, Some(id.to_string())),
        };
        match outcome {
            Ok(()) => table.push([group.into(), instance.into(), id.into(), true.into()]),
            Err(error) if error.code() == Some(ErrorCode::UnknownMemberId) => failures.push(
                Failure::new(format!("member {member} is not in group {group}"))
                    .advise(format!("kavka group describe {group} names those that are.")),
            ),
            Err(error) => failures.push(error.into()),
        }
    }
    if args.all && table.is_empty() && failures.is_empty() {
        options.notes().say(format_args!("Group {group} has no members."));
    }
    if !table.is_empty() {
        Report::list("kavka.group.remove-members", table).print(options.format())?;
    }
    failure::all(failures)
}
