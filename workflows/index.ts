/** Workflow types by their name; names are API. */
export { schemaMigration } from './schemaMigration';
export { rollback } from './rollback';
export { validation } from './validation';
export { dataMigration } from './dataMigration';
export { dataMigrationTables } from './dataTables';
export { blueGreen } from './blueGreen';
export { canary } from './canary';
