//! A strict view of one element: what may stand in it is named, everything else refuses.

use uppsala::{Document, NodeId, NodeKind, QName};

use super::{AssertionError, Defect};

pub(super) const NS_XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// One element of a document.
#[derive(Clone, Copy)]
pub(super) struct Element<'d> {
    pub document: &'d Document<'static>,
    pub node: NodeId,
}

impl<'d> Element<'d> {
    fn element(self) -> Option<&'d uppsala::Element<'static>> {
        self.document.element(self.node)
    }

    pub(super) fn is(self, namespace: &str, name: &str) -> bool {
        self.element().is_some_and(|e| e.matches_name_ns(namespace, name))
    }

    pub(super) fn name(self) -> Option<&'d QName<'static>> {
        self.element().map(|e| &e.name)
    }

    /// Attributes of the element, those in a namespace too.
    pub(super) fn attributes(self) -> &'d [uppsala::Attribute<'static>] {
        self.element().map_or(&[], |e| &e.attributes)
    }

    /// Value of an attribute without a namespace.
    pub(super) fn attribute(self, name: &str) -> Option<&'d str> {
        self.attributes().iter().find(|a| a.name.namespace_uri.is_none() && a.name.local_name == name).map(|a| &*a.value)
    }

    pub(super) fn attribute_ns(self, namespace: &str, name: &str) -> Option<&'d str> {
        self.attributes().iter().find(|a| a.name.matches(Some(namespace), name)).map(|a| &*a.value)
    }

    /// Refuses any attribute without a namespace that is not named, and any in a namespace but `xsi:type` where it is allowed.
    pub(super) fn allow(self, names: &[&str], xsi_type: bool, defect: Defect) -> Result<Self, AssertionError> {
        let allowed = |a: &uppsala::Attribute<'_>| match a.name.namespace_uri.as_deref() {
            None => names.contains(&&*a.name.local_name),
            Some(namespace) => xsi_type && namespace == NS_XSI && a.name.local_name == "type",
        };
        if self.attributes().iter().all(allowed) {
            Ok(self)
        } else {
            Err(defect.because("an attribute that is not allowed on its element"))
        }
    }

    /// Child elements in order. Text between them is white space, and there are no comments, CDATA sections or instructions.
    pub(super) fn children(self, defect: Defect) -> Result<Vec<Element<'d>>, AssertionError> {
        let mut children = Vec::new();
        for node in self.document.children_iter(self.node) {
            match self.document.node_kind(node) {
                Some(NodeKind::Element(_)) => children.push(Element { document: self.document, node }),
                Some(NodeKind::Text(text)) if is_blank(text) => {}
                _ => return Err(defect.because("text or other content between elements")),
            }
        }
        Ok(children)
    }

    /// Child elements, without any judgement of what else is there.
    pub(super) fn child_elements(self) -> impl Iterator<Item = Element<'d>> {
        let document = self.document;
        document.children_iter(self.node).filter(move |node| document.element(*node).is_some()).map(move |node| Element { document, node })
    }

    /// Elements below this one, in document order.
    pub(super) fn descendants(self) -> impl Iterator<Item = Element<'d>> {
        let document = self.document;
        document
            .descendants(self.node)
            .into_iter()
            .filter(move |node| document.element(*node).is_some())
            .map(move |node| Element { document, node })
    }

    /// Character content of an element that has no other content.
    pub(super) fn text(self, defect: Defect) -> Result<String, AssertionError> {
        let mut out = String::new();
        for node in self.document.children_iter(self.node) {
            match self.document.node_kind(node) {
                Some(NodeKind::Text(text)) => out.push_str(text),
                _ => return Err(defect.because("an element with text has other content")),
            }
        }
        Ok(out)
    }

    /// Namespace that a prefix (empty for the default) stands for here.
    pub(super) fn namespace_of(self, prefix: &str) -> Option<&'d str> {
        let document = self.document;
        std::iter::once(self.node)
            .chain(document.ancestors(self.node))
            .filter_map(|node| document.element(node))
            .find_map(|e| e.namespace_declarations.iter().find(|(p, _)| p == prefix))
            .map(|(_, uri)| &**uri)
    }
}

/// Takes children in the order of a sequence.
pub(super) struct Sequence<'d> {
    children: std::iter::Peekable<std::vec::IntoIter<Element<'d>>>,
    defect: Defect,
}

impl<'d> Sequence<'d> {
    pub(super) fn of(parent: Element<'d>, defect: Defect) -> Result<Self, AssertionError> {
        Ok(Self { children: parent.children(defect)?.into_iter().peekable(), defect })
    }

    pub(super) fn optional(&mut self, namespace: &str, name: &str) -> Option<Element<'d>> {
        self.children.next_if(|child| child.is(namespace, name))
    }

    pub(super) fn required(&mut self, namespace: &str, name: &str, what: &'static str) -> Result<Element<'d>, AssertionError> {
        self.optional(namespace, name).ok_or(self.defect.because(what))
    }

    pub(super) fn next(&mut self) -> Option<Element<'d>> {
        self.children.next()
    }

    pub(super) fn end(mut self, what: &'static str) -> Result<(), AssertionError> {
        if self.children.next().is_none() { Ok(()) } else { Err(self.defect.because(what)) }
    }
}

/// XML white space.
pub(super) fn is_xml_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(is_xml_space)
}
