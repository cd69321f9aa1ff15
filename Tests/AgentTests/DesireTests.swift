import Agent
import Foundation
import Model
import Testing

/// What the file says of protection by itself.
struct DesireTests {
    private func load(_ vm: String) throws -> Configuration.VM? {
        let text = """
            node: alpha
            tls: {ca: /c, certificate: /d, key: /k}
            peers: {beta: {address: "h:1"}, gamma: {address: "i:1"}}
            defaults: {replace_after: 90}
            vms:
              web:
            \(vm.split(separator: "\n").map { "    " + $0 }.joined(separator: "\n"))
            """
        return try Configuration.load(text, path: "r.yaml").vms.values.first
    }

    @Test func aStandbyIsOneHostOrAList() throws {
        #expect(try load("standby: beta")?.standbys == ["beta"])
        let both = try load("standby: [beta, gamma]\nreplace_after: 5")
        #expect(both?.standbys == ["beta", "gamma"] && both?.standby == "beta" && both?.replaceAfter == 5)
        #expect(try load("qmp: /q")?.standbys == [])
        #expect(try load("qmp: /q")?.replaceAfter == 90)
    }

    @Test func whatIsNotSaidIsKnownFromWhatIs() throws {
        #expect(try load("qmp: /q\nstandby: beta")?.protect == nil)
        #expect(try load("qmp: /q\nstandby: beta\nprotect: always")?.protect == .always)
        #expect(try load("protect: manual")?.protect == .manual)
    }

    @Test(arguments: [
        ("standby: [beta, beta]", "r.yaml:7: “vms.web.standby” must name each host once"),
        ("standby: [beta, gama]", "“gama” is not there; did you mean “gamma”?"),
        ("qmp: /q\nprotect: always", "r.yaml:8: “vms.web.protect” is always, which needs “qmp” and “standby”"),
        ("protect: alway", "“vms.web.protect” must be one of always or manual, not “alway”; did you mean “always”?"),
        ("replace_after: -1", "“vms.web.replace_after” must be a whole number from 0 to 86400"),
    ])
    func whatIsWrongIsNamed(_ text: String, _ expected: String) throws {
        let error = #expect(throws: ConfigurationError.self) { try load(text) }
        #expect(error?.description.contains(expected) == true, "\(error?.description ?? "")")
    }
}
