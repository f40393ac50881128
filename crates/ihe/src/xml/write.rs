//! XML writer.

use super::{Ns, is_xml_char};

/// Writes elements in document order into a string. Names are ours; values are escaped, and a character that XML
/// forbids becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    open: Vec<(Ns, &'static str)>,
    tag_open: bool,
}

impl Writer {
    /// An empty document without XML declaration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins `prefix:local`. The namespace must be declared by [`Writer::declare`] on it or an ancestor.
    pub fn start(&mut self, ns: Ns, local: &'static str) -> &mut Self {
        self.close_tag();
        self.out.push('<');
        self.name(ns, local);
        self.open.push((ns, local));
        self.tag_open = true;
        self
    }

    /// Declares the prefix of a namespace on the element just begun.
    pub fn declare(&mut self, ns: Ns) -> &mut Self {
        self.out.push_str(" xmlns:");
        self.out.push_str(ns.prefix());
        self.out.push_str("=\"");
        self.out.push_str(ns.uri());
        self.out.push('"');
        self
    }

    /// An attribute of the element just begun. `name` may hold a prefix that is declared.
    pub fn attribute(&mut self, name: &str, value: &str) -> &mut Self {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        escape_attribute(value, &mut self.out);
        self.out.push('"');
        self
    }

    /// An attribute if there is a value.
    pub fn attribute_if(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.attribute(name, value);
        }
        self
    }

    /// Text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.close_tag();
        escape_text(text, &mut self.out);
        self
    }

    /// Well-formed XML that brings its own namespace declarations.
    pub fn raw(&mut self, xml: &str) -> &mut Self {
        self.close_tag();
        self.out.push_str(xml);
        self
    }

    /// Ends the innermost open element.
    pub fn end(&mut self) -> &mut Self {
        let Some((ns, local)) = self.open.pop() else { return self };
        if self.tag_open {
            self.out.push_str("/>");
            self.tag_open = false;
        } else {
            self.out.push_str("</");
            self.name(ns, local);
            self.out.push('>');
        }
        self
    }

    /// An element with text only.
    pub fn leaf(&mut self, ns: Ns, local: &'static str, text: &str) -> &mut Self {
        self.start(ns, local).text(text).end()
    }

    /// The document. Open elements are ended.
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.out
    }

    fn close_tag(&mut self) {
        if self.tag_open {
            self.out.push('>');
            self.tag_open = false;
        }
    }

    fn name(&mut self, ns: Ns, local: &str) {
        let prefix = ns.prefix();
        if !prefix.is_empty() {
            self.out.push_str(prefix);
            self.out.push(':');
        }
        self.out.push_str(local);
    }
}

/// Appends `text` as element content.
pub fn escape_text(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            c if is_xml_char(c) => out.push(c),
            _ => out.push('\u{FFFD}'),
        }
    }
}

/// Appends `text` as the content of a double-quoted attribute value; white space survives normalisation.
pub fn escape_attribute(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c if is_xml_char(c) => out.push(c),
            _ => out.push('\u{FFFD}'),
        }
    }
}
