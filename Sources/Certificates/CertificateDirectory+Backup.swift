extension CertificateDirectory {
    /// Does something while nobody changes anything here, in this process or another. Where there are no certificates it is
    /// done all the same. Throws `CertificateError.busy` when somebody else is at work for ten seconds, and what `body` does.
    package func whileUnchanged<Result>(_ body: () throws -> Result) throws -> Result {
        guard isDirectory(path) else { return try body() }
        let lock = try FileLock("\(path)/lock")
        let result = try body()
        _ = consume lock
        return result
    }
}
