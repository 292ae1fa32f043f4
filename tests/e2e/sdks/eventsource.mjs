// The npm package `eventsource`: joins, takes a message from elsewhere, publishes by POST, takes it back with its name.

import { EventSource } from 'eventsource';

const [base, channel] = [`http://${process.argv[2]}`, 'sdk-eventsource'];
const source = new EventSource(`${base}/sse/${channel}`);
source.onopen = () => console.log('joined');
source.onmessage = async ({ data, lastEventId }) => {
  console.log(`received ${data} with ${lastEventId ? 'an id' : 'no id'}`);
  const answer = await fetch(`${base}/pub/${channel}`, {
    method: 'POST', body: 'from\neventsource', headers: { 'Headwater-Event': 'greeting' },
  });
  console.log(`published ${answer.status}`);
};
source.addEventListener('greeting', ({ data }) => {
  console.log(`greeting ${JSON.stringify(data)}`);
  source.close();
});
source.onerror = error => console.log(`error ${error.code ?? ''} ${error.message ?? ''}`);
