/** Objects that are neither tables nor what stands on them: all of them arrive as they are, and the way back leaves none of them, and no right that they brought. */
import { takeBackCopy } from '../../../postgres/copy/run';
import { diffCatalog } from '../../../postgres/catalog/diff';
import { contents, copyAll, copyPair } from '../../support/copy';
import { describeVersions } from '../../support/database';

const setup = (role: string): string => `
CREATE ROLE ${role}; CREATE TABLE a (id int PRIMARY KEY, t text); ALTER TABLE a OWNER TO ${role}; GRANT SELECT (t), INSERT ON a TO PUBLIC;
CREATE SCHEMA AUTHORIZATION ${role}; CREATE TABLE ${role}.own (id serial); ALTER TABLE ${role}.own OWNER TO ${role}; COMMENT ON COLUMN a.t IS 'text';
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES FOR ROLE ${role} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC; GRANT USAGE ON SCHEMA public TO ${role} WITH GRANT OPTION; COMMENT ON SCHEMA public IS 'it''s mine';
CREATE EXTENSION postgres_fdw; CREATE SERVER "S 1" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere'); CREATE USER MAPPING FOR ${role} SERVER "S 1" OPTIONS (user 'u');
CREATE USER MAPPING FOR PUBLIC SERVER "S 1"; CREATE FOREIGN TABLE far (a int) SERVER "S 1";
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq); CREATE TYPE fr AS RANGE (subtype = float8); CREATE TYPE cmp AS (a int); CREATE DOMAIN d AS text COLLATE "C" DEFAULT 'x' NOT NULL CHECK (value <> '');
CREATE FUNCTION cf(cmp) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE CAST (cmp AS int) WITH FUNCTION cf(cmp); CREATE COLLATION co (locale = 'C');
CREATE TEXT SEARCH CONFIGURATION tsc (COPY = simple); CREATE AGGREGATE ag (int) (sfunc = int4pl, stype = int); CREATE PROCEDURE pr(inout x int) LANGUAGE sql AS 'SELECT 1';
CREATE OPERATOR CLASS opc FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int); CREATE INDEX by_opc ON a (id opc);
CREATE VIEW v AS SELECT id FROM a WHERE id > 0 WITH CASCADED CHECK OPTION; CREATE VIEW w WITH (security_barrier) AS SELECT * FROM v; CREATE RULE r AS ON INSERT TO w DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW m1 AS SELECT count(*) AS n FROM a; CREATE MATERIALIZED VIEW m2 AS SELECT n FROM m1; CREATE UNIQUE INDEX ON m1 (n);
CREATE PUBLICATION one FOR TABLE a (id) WHERE (id > 5); CREATE PUBLICATION every FOR ALL TABLES WITH (publish = 'insert'); CREATE PUBLICATION whole FOR TABLES IN SCHEMA public;
CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER evt ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION et(); ALTER EVENT TRIGGER evt DISABLE;
CREATE STATISTICS st (dependencies) ON id, t FROM a; ALTER TABLE a ALTER t SET STATISTICS 500, ALTER t SET STORAGE EXTERNAL, SET (fillfactor = 70); SELECT lo_from_bytea(4711, '\\x01'); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC;
CREATE TRIGGER late AFTER INSERT ON a REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger(); ALTER TABLE a ENABLE REPLICA TRIGGER late;
INSERT INTO a SELECT g, 'x' FROM generate_series(1, 10) g; REFRESH MATERIALIZED VIEW m1; REFRESH MATERIALIZED VIEW m2; ANALYZE;`;

const ours = (catalog: readonly string[]): string[] => catalog.filter((line) => !/pgshift/.test(line));

describeVersions('objects', (version) => {
  test('all of them arrive; the way back leaves the catalogue as it was', async () => {
    const role = `owner_${Math.random().toString(36).slice(2, 10)}`;
    const pair = await copyPair(setup(role), { tables: { include: ['*.*'] } }, [version, version]);
    try {
      const before = await contents(pair.target);
      await copyAll(pair.context);
      const [here, there] = [await contents(pair.source), await contents(pair.target)];
      expect(diffCatalog(ours(here.catalog), ours(there.catalog))).toEqual({ added: [], removed: [] });
      expect(there.rows).toEqual(here.rows);
      await takeBackCopy(pair.context);
      const after = await contents(pair.target);
      expect(diffCatalog(ours(before.catalog), ours(after.catalog))).toEqual({ added: [], removed: [] });
    } finally {
      await pair.source.query(`DROP OWNED BY ${role} CASCADE`);
      await pair.target.query(`DROP OWNED BY ${role} CASCADE`);
      await pair.source.query(`DROP ROLE ${role}`);
      await pair.drop();
    }
  });
});
