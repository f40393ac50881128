//! Checks of a removal (ITI-62, ITI-86; profile 08 §7.2), on the state that it would leave.

use super::super::removal::{RemovalView, Removed, Tie};
use idr_ihe::ebxml::scheme::association::{HAS_MEMBER, RPLC, XFRM_RPLC};

/// Of a removal. Each finds ids of the request; those of the request as a whole find none.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum RemovalCheck {
    /// An AdhocQuery or a deletionScope is given.
    RemovalScopeGiven,
    /// No reference, or one without id.
    RemovalEmpty,
    /// An id stands twice.
    RemovedTwice,
    /// No object that the caller may correct.
    RemovedUnknown,
    /// An association that stays has the object as its end.
    RemovedReferenced,
    /// A membership goes and leaves a set without members, or an object without set.
    LeftAlone,
    /// A replacement goes with its entry, and what it replaced stays Deprecated.
    ReplacementLost,
    /// No document that the caller may correct.
    DocumentUnknown,
    /// The document is an Approved manifest's, or somebody else's too.
    DocumentNeeded,
}

impl RemovalCheck {
    /// Ids of the request that break the rule in the registry's state, in the order of the request.
    pub fn broken<'a>(self, removed: &Removed<'a>, view: &RemovalView) -> Vec<&'a str> {
        let broken = |id: &str| match self {
            Self::RemovedUnknown => !view.objects.get(id).is_some_and(|object| object.correctable),
            Self::RemovedReferenced => view.ties_of(id).any(|tie| removed.stays(tie)),
            Self::LeftAlone => view.tie(id).is_some_and(|tie| leaves_alone(tie, removed, view)),
            Self::ReplacementLost => view.tie(id).is_some_and(|tie| loses_replacement(tie, removed, view)),
            _ => false,
        };
        removed.ids().filter(|id| broken(&idr_ihe::ebxml::lower_uuid(id))).collect()
    }
}

fn is_membership_of_set(tie: &Tie, view: &RemovalView) -> bool {
    tie.kind == HAS_MEMBER && view.objects.get(&tie.source).is_some_and(|source| source.is_set)
}

fn leaves_alone(tie: &Tie, removed: &Removed<'_>, view: &RemovalView) -> bool {
    if !is_membership_of_set(tie, view) {
        return false;
    }
    let membership = |other: &&Tie| removed.stays(other) && is_membership_of_set(other, view);
    let set_is_empty = || !view.ties_of(&tie.source).filter(membership).any(|other| other.source == tie.source);
    let member_is_alone = || !view.ties_of(&tie.target).filter(membership).any(|other| other.target == tie.target);
    !removed.has(&tie.source) && set_is_empty() || !removed.has(&tie.target) && member_is_alone()
}

fn loses_replacement(tie: &Tie, removed: &Removed<'_>, view: &RemovalView) -> bool {
    let replaces = |tie: &Tie| [RPLC, XFRM_RPLC].contains(&tie.kind.as_str());
    let left_deprecated = !removed.has(&tie.target) && view.objects.get(&tie.target).is_some_and(|object| object.deprecated);
    let other = |other: &Tie| replaces(other) && removed.stays(other) && other.target == tie.target;
    replaces(tie) && removed.has(&tie.source) && left_deprecated && !view.ties_of(&tie.target).any(other)
}
