// An app in another language, with the modules that come with Node.js alone. It knows of no mesh and of no proxy.
//
//   node node_app.js HTTP_PORT PLAIN_PORT...
//
// HTTP: `/call?url=` calls a URL and answers what it was answered; `/socket?host=&port=` says a line over a plain socket.
// The plain ports answer with the line, and with both ends of the connection as the app sees them.
const http = require('http');
const net = require('net');

const [httpPort, ...plainPorts] = process.argv.slice(2).map(Number);

function call(query, request, answer) {
  const headers = {};
  if (request.headers['end-user']) headers['end-user'] = request.headers['end-user'];
  http.get(query.get('url'), { headers }, (response) => {
    const chunks = [];
    response.on('data', (chunk) => chunks.push(chunk));
    response.on('end', () => answer(response.statusCode, Buffer.concat(chunks)));
  }).on('error', (error) => answer(599, error.code));
}

function socket(query, request, answer) {
  const chunks = [];
  const client = net.connect(Number(query.get('port')), query.get('host'), () => client.write('hello, peer\n'));
  client.on('data', (chunk) => chunks.push(chunk));
  client.on('error', (error) => answer(599, error.code));
  client.on('end', () => answer(200, Buffer.concat(chunks)));
}

http.createServer((request, response) => {
  const url = new URL(request.url, 'http://self');
  const answer = (status, body) => response.end(JSON.stringify({ status, body: String(body) }));
  const verbs = { '/call': call, '/socket': socket };
  if (verbs[url.pathname]) verbs[url.pathname](url.searchParams, request, answer);
  else answer(200, url.pathname);
}).listen(httpPort, '0.0.0.0');

for (const port of plainPorts) {
  net.createServer((client) => {
    let heard = '';
    client.on('error', () => client.destroy());
    client.on('data', (chunk) => {
      heard += chunk;
      if (!heard.endsWith('\n')) return;
      client.end(JSON.stringify({
        heard: heard.trim(),
        here: `${client.localAddress}:${client.localPort}`,
        peer: client.remoteAddress,
      }));
    });
  }).listen(port, '0.0.0.0');
}
