import Model

/// Hosts as tests write them: a text that stands in the source is one's name.
extension NodeName: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) { self.init(unchecked: text) }
}
