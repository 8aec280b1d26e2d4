/**
 * The last guard: nothing that looks like a connection string leaves the CLI, whoever wrote the sentence. Every error and every echoed
 * line of a file passes here.
 */

const URL_LIKE = /\b[a-z][a-z0-9+.-]*:\/\/[^\s'"`<>]*/gi;
const KEYWORD_SECRET = /\b(password|passwd|pgpassword)\s*=\s*\S+/gi;
const HIDDEN = '(URL not shown)';

const hasSecret = (url: string): boolean =>
  /:\/\/[^/\s]*@/.test(url) || /^postgres(ql)?:/i.test(url) || /[?&](password|token|key)=/i.test(url);

/** Takes URLs that may hold credentials, and `password=...`, out of a sentence. Links such as the Web UI's stay. */
export const redact = (text: string): string =>
  text.replace(URL_LIKE, (url) => (hasSecret(url) ? HIDDEN : url)).replace(KEYWORD_SECRET, '$1=(not shown)');

/** A line of a file is echoed whole or not at all: half of it may still hold the secret. */
export const echoable = (text: string): boolean => !/:\/\//.test(text) && !/\b(password|passwd|host)\s*=/i.test(text);
