/** All activities, with what they need from the composition root. */
import { baseline, watch } from './watch';
import * as blueGreen from './blueGreen';
import * as end from './blueGreenEnd';
import { prepareSwitch } from './blueGreenReady';
import * as switching from './blueGreenSwitch';
import { openSync, subscribe, watchPair } from './blueGreenSync';
import { verifyPair } from './blueGreenVerify';
import * as canary from './canary';
import { activity } from './context';
import * as data from './data';
import type { ActivityDeps } from './deps';
import { backup, finish, record } from './finish';
import { runHook } from './hook';
import { open, prepare } from './prepare';
import { prepareRollback } from './rollback';
import { previewUndo, runSteps, undoSteps } from './steps';
import * as stream from './stream';
import type { Activities } from './types';
import { archiveBlue, watchUnused } from './unused';
import { finishValidation, openValidation, verifyPhase } from './verify';

export type { ActivityDeps } from './deps';
export type { Activities } from './types';

export function createActivities(deps: ActivityDeps): Activities {
  return {
    open: activity(deps, 'open', open),
    prepare: activity(deps, 'prepare', prepare),
    backup: activity(deps, 'backup', backup),
    baseline: activity(deps, 'baseline', baseline),
    runSteps: activity(deps, 'runSteps', runSteps),
    previewUndo: activity(deps, 'previewUndo', previewUndo),
    undoSteps: activity(deps, 'undoSteps', undoSteps),
    watch: activity(deps, 'watch', watch),
    runHook: activity(deps, 'runHook', runHook),
    record: activity(deps, 'record', record),
    finish: activity(deps, 'finish', finish),
    openData: activity(deps, 'openData', data.openData),
    prepareData: activity(deps, 'prepareData', data.prepareData),
    openSnapshot: activity(deps, 'openSnapshot', data.openSnapshot),
    makeSchema: activity(deps, 'makeSchema', data.makeSchema),
    copyTables: activity(deps, 'copyTables', data.copyTables),
    watchCopy: activity(deps, 'watchCopy', data.watchCopy),
    settleTable: activity(deps, 'settleTable', data.settleTable),
    buildRest: activity(deps, 'buildRest', data.buildRest),
    verifyCopy: activity(deps, 'verifyCopy', data.verifyCopy),
    closeSnapshot: activity(deps, 'closeSnapshot', data.closeSnapshot),
    takeBackCopy: activity(deps, 'takeBackCopy', data.takeBackCopy),
    openBlueGreen: activity(deps, 'openBlueGreen', blueGreen.openBlueGreen),
    prepareBlueGreen: activity(deps, 'prepareBlueGreen', blueGreen.prepareBlueGreen),
    noteSchemas: activity(deps, 'noteSchemas', blueGreen.noteSchemas),
    wallGreen: activity(deps, 'wallGreen', blueGreen.wallGreen),
    applyChange: activity(deps, 'applyChange', blueGreen.applyChange),
    openSync: activity(deps, 'openSync', openSync),
    subscribe: activity(deps, 'subscribe', subscribe),
    watchPair: activity(deps, 'watchPair', watchPair),
    verifyPair: activity(deps, 'verifyPair', verifyPair),
    prepareSwitch: activity(deps, 'prepareSwitch', prepareSwitch),
    switchOver: activity(deps, 'switchOver', switching.switchOver),
    settleSwitch: activity(deps, 'settleSwitch', switching.settleSwitch),
    afterSwitch: activity(deps, 'afterSwitch', switching.afterSwitch),
    setShare: activity(deps, 'setShare', canary.setShare),
    keepReads: activity(deps, 'keepReads', canary.keepReads),
    recordParts: activity(deps, 'recordParts', end.recordParts),
    takeBackPair: activity(deps, 'takeBackPair', end.takeBackPair),
    abandonPair: activity(deps, 'abandonPair', end.abandonPair),
    decommission: activity(deps, 'decommission', end.decommission),
    watchUnused: activity(deps, 'watchUnused', watchUnused),
    archiveBlue: activity(deps, 'archiveBlue', archiveBlue),
    removeBlue: activity(deps, 'removeBlue', end.removeBlue),
    finishGreen: activity(deps, 'finishGreen', end.finishGreen),
    observeBounds: activity(deps, 'observeBounds', stream.observeBounds),
    incrementPass: activity(deps, 'incrementPass', stream.incrementPass),
    followStream: activity(deps, 'followStream', stream.followStream),
    verifyStream: activity(deps, 'verifyStream', stream.verifyStream),
    skipChange: activity(deps, 'skipChange', stream.skipChange),
    endStream: activity(deps, 'endStream', stream.endStream),
    prepareRollback: activity(deps, 'prepareRollback', prepareRollback),
    openValidation: activity(deps, 'openValidation', openValidation),
    verifyPhase: activity(deps, 'verifyPhase', verifyPhase),
    finishValidation: activity(deps, 'finishValidation', finishValidation),
  };
}
