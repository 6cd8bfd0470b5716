//! JUnit XML: a test case a rule, failed by what is new or worse; the form that every pipeline shows.

use super::Audit;
use crate::report::visible;
use crate::{Error, Result};
use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::Writer;

/// `<testsuites>` with one suite.
pub fn document(audit: &Audit) -> Result<String> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    write(audit, &mut xml).map_err(|error| Error::of_output(&error, "the audit"))?;
    let mut text = xml.into_inner();
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| Error::Evidence(error.to_string()))
}

fn write(audit: &Audit, xml: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
    let rules: Vec<_> = audit.checked.keys().chain(audit.unchecked.keys()).copied().collect();
    let failing = |rule| audit.findings.iter().filter(move |finding| finding.rule == rule && finding.fails());
    let failures = rules.iter().filter(|&&rule| failing(rule).next().is_some()).count();
    let counts = [rules.len(), failures, audit.unchecked.len()].map(|count| count.to_string());
    let [tests, failures, errors] = counts.each_ref().map(String::as_str);
    let attributes = [("name", "mapscope audit"), ("tests", tests), ("failures", failures), ("errors", errors)];
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suite = xml.create_element("testsuites").with_attributes(attributes);
    suite.write_inner_content(|xml| {
        let suite = xml.create_element("testsuite").with_attributes(attributes);
        suite.write_inner_content(|xml| {
            for &rule in &rules {
                let case = [("classname", "mapscope.audit"), ("name", rule.name())];
                xml.create_element("testcase").with_attributes(case).write_inner_content(|xml| {
                    for finding in failing(rule) {
                        let at =
                            finding.source.as_ref().map_or(String::new(), |(file, line)| format!("\n{file}:{line}"));
                        let (place, said) = (printable(&finding.shown), printable(&format!("{}{at}", finding.message)));
                        let failure = [("type", finding.state.name()), ("message", place.as_str())];
                        let failure = xml.create_element("failure").with_attributes(failure);
                        failure.write_text_content(BytesText::new(&said))?;
                    }
                    if let Some(why) = audit.unchecked.get(&rule) {
                        let why = printable(why);
                        let attributes = [("type", "not checked"), ("message", why.as_str())];
                        xml.create_element("error").with_attributes(attributes).write_empty()?;
                    }
                    let known: Vec<_> = audit.findings.iter().filter(|f| f.rule == rule && !f.fails()).collect();
                    let known: Vec<String> =
                        known.iter().map(|f| format!("known: {}", printable(&f.message))).collect();
                    if !known.is_empty() {
                        let out = xml.create_element("system-out");
                        out.write_text_content(BytesText::new(&known.join("\n")))?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(())
}

/// Characters that XML 1.0 has no form for, and those that mislead, as escapes; line ends stay.
fn printable(text: &str) -> String {
    let line = |line: &str| visible(line).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}
