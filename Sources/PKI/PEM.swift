import Crypto
import SwiftASN1
import X509

/// Certificates and keys out of PEM files, and certificates into DER.
enum PEM {
    static func certificate(at path: String) throws(PKIError) -> Certificate {
        let text = try PrivateFiles.read(path, secret: false)
        do {
            return try Certificate(pemEncoded: text)
        } catch {
            throw .notACertificate(path: path, reason: "\(error)")
        }
    }

    static func key(at path: String) throws(PKIError) -> P256.Signing.PrivateKey {
        let text = try PrivateFiles.read(path, secret: true)
        do {
            return try P256.Signing.PrivateKey(pemRepresentation: text)
        } catch {
            // Never the error's own words: they may quote what was read.
            throw .notAKey(path: path, reason: "it does not parse")
        }
    }

    static func der(_ certificate: Certificate) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return serializer.serializedBytes
    }
}
