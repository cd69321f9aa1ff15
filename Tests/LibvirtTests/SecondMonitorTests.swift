import Libvirt
import Testing

/// The second monitor in a domain's XML, as libvirt 9.0 writes it.
@Suite struct SecondMonitorTests {
    private static let plain = """
        <domain type='kvm'>
          <name>web</name>
          <metadata>
            <app:note xmlns:app="http://example.org/">a &lt;/domain&gt; of text</app:note>
          </metadata>
          <devices>
          </devices>
        </domain>

        """
    private static let withArguments = """
        <domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
          <name>web</name>
          <qemu:commandline>
            <qemu:arg value='-fw_cfg'/>
            <qemu:arg value='name=opt/x,string=romulus'/>
          </qemu:commandline>
        </domain>

        """

    @Test(arguments: [plain, withArguments], ["/run/web.qmp", "/run/a,b & 'c' <d>.qmp"])
    func itIsAddedFoundAndTakenOut(xml: String, path: String) throws {
        #expect(SecondMonitor(in: xml) == nil)
        let changed = try #require(SecondMonitor(path: path).added(to: xml))
        #expect(SecondMonitor(in: changed) == SecondMonitor(path: path))
        #expect(changed.ranges(of: "xmlns:qemu=").count == 1)
        #expect(changed.ranges(of: "<qemu:commandline>").count == 1)
        #expect(changed.hasSuffix("  </qemu:commandline>\n</domain>\n"))
        #expect(SecondMonitor.removed(from: changed) == xml)
    }

    @Test func anotherPathTakesThePlaceOfTheOldOne() throws {
        let first = try #require(SecondMonitor(path: "/run/1.qmp").added(to: Self.withArguments))
        let second = try #require(SecondMonitor(path: "/run/2.qmp").added(to: first))
        #expect(SecondMonitor(in: second)?.path == "/run/2.qmp")
        #expect(!second.contains("/run/1.qmp") && second.contains("opt/x"))
        #expect(SecondMonitor(path: "/run/2.qmp").added(to: second) == second)
    }

    @Test func whatIsNoDomainIsNotChanged() {
        #expect(SecondMonitor(path: "/run/1.qmp").added(to: "<network/>") == nil)
        #expect(SecondMonitor.removed(from: Self.plain) == Self.plain)
    }
}
